"""Segment Anything on PyTorch: weights, image encoder, export to ONNX."""
