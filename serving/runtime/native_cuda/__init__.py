"""The compiled loop on CUDA: cuBLAS and two kernels of our own, an alternative to unrolled graphs.

loop.cu      models, runners and their CUDA graphs; see there. kernels.h, products.h: what they run
library.py   compiles it (`make kernels`) and loads it
packing.py   brings a bundle's weights into its layout
structures.py what is handed over, as loop.h declares it
runner.py    a Runner that uses it, after comparing it with the CPU
"""
