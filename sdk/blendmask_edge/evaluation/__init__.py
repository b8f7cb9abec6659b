"""Accuracy against COCO annotations."""
