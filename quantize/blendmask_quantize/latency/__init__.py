"""Predicted latency of INT8 graphs, from measured times of their layers."""
