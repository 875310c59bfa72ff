"""The tracker without Python: its programs as StableHLO, ONNX and other formats, and small runtimes that run them."""
