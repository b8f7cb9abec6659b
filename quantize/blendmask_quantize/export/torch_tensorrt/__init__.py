"""The Torch-TensorRT program of a bundle's graph."""
