"""Compile a checkpoint into a bundle: ONNX graphs, one weight file, a manifest, proof."""
