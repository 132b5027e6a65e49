"""The process that runs the model, and may die: ``python -m harden.worker``."""
