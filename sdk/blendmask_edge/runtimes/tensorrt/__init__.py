"""TensorRT: build an engine and run it."""
