"""What ONNX Runtime needs for CUDA."""
