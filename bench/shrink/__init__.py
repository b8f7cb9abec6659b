"""Shrink a network in every way that the study compares: what is made, its accuracy and its speed."""
