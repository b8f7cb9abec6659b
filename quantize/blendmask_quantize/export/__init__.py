"""From a network to a static ONNX graph."""
