"""What ONNX Runtime needs for CUDA: its libraries, and captures of graphs that nothing disturbs."""
