"""Runtimes: one protocol, one file and one row of the registry each."""
