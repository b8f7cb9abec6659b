"""Checks of arguments: what a value may be, and the message where it is something else."""
