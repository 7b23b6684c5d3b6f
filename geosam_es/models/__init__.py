"""The embedded models: ONNX files, their cards and licences."""
