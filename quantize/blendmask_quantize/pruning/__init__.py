"""Structured channel pruning and fine-tuning."""
