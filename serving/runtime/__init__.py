"""ONNX Runtime: graphs, the decode loop and the states of its rows."""
