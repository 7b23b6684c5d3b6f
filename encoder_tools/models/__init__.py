"""Segment Anything on PyTorch: checkpoints, loading, encoding and export to ONNX.

Only `checkpoints` works without PyTorch; the other modules raise a `ModelError` with the remedy where it is
missing. Nothing here is imported by a command that needs no PyTorch.
"""
