"""Accuracy and speed of one bundle in one run, held against a reviewed baseline: what `blendmask bench` does."""
