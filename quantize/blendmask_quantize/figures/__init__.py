"""Figures of bases, attention and masks."""
