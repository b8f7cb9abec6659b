"""The processor and the CUDA driver of this machine."""
