"""Measurements: what is published, and the suites that time single stages."""
