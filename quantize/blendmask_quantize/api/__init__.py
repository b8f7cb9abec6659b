"""The public functions. Each checks its arguments before it loads torch."""
