"""The loop for CUDA."""
