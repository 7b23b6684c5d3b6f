"""ONNX inference: encoder, prompt decoder and the session that drives them."""
