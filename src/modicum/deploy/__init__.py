"""From a trained net to where it is needed: one ONNX file, and prediction without torch."""
