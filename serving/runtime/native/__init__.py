"""The compiled loop in C++, an alternative to ONNX Runtime's decode.onnx that gives the same bits.

loop.cpp     one function for all steps, compiled for each instruction set
layers.h     the products and cells of a step, and its logits
tiled_layers.h the same in int8, where amx.h has tiles
drawing.h    how symbols are drawn; filters.h, alternatives.h, softmax.h, activations.h, vector.h
library.py   compiles it (`make kernels`) and loads it
packing.py   brings a bundle's weights into its layout
structures.py what is handed over, as loop.h declares it
decoder.py   a Decoder that uses it where it can, after comparing its bits
"""
