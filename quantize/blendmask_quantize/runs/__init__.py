"""Shared by long commands: the folder of an unfinished run, and how progress is announced."""
