"""Models: the built-in tiny one, folders and hub ids, by the names that users give."""
