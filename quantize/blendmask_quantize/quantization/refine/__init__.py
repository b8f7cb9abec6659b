"""Refinement of weights and biases after calibration."""
