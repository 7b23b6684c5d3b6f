"""Models that encode images: loading by name, downloads, one module for each family, the decoder they share.

Only `checkpoints`, and `loading` for ONNX models, work without PyTorch. Other modules raise a `ModelError` with the
remedy if it is missing.
"""
