"""Settings of the whole test suite. The harden plugin loads by its entry point, never from here."""

pytest_plugins = ["pytester"]
