"""ONNX Runtime: graphs, the decode loop and the states of its rows."""

from serving.runtime.installed import check_runtime

check_runtime()  # before a module of it asks for the package
