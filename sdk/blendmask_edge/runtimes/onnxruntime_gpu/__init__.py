"""ONNX Runtime on an NVIDIA GPU: its CUDA and its TensorRT provider, without a silent fallback to the CPU."""
