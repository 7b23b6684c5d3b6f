"""The embedded model `mini`: network, training, export and evaluation.

Everything here but `prompts` and `evaluate` needs torch; the product itself only reads the exported ONNX files
in ``geosam_es/models/mini``.
"""
