"""The embedded model `mini`: network, data, training and export.

The plugin reads only the exported ONNX files in ``geosam_es/models/mini``.
"""
