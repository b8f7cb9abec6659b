"""Atomic files and the cache."""
