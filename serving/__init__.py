"""Serve bundles over gRPC with ONNX Runtime. Imports neither torch nor onnx."""
