"""Predict many images with one network, on any executor."""
