"""Bounds of what each operator of ONNX makes, by opsets 13 to 17: https://onnx.ai/onnx/operators"""
