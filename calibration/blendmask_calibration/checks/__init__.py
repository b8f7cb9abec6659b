"""Checks that refuse unsuitable calibration images."""
