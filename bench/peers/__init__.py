"""Opponents of the benchmark: other quantizers, networks and programs, each an optional package."""
