"""Compile the native loops: `make kernels`, or `python -m serving.runtime.native`."""

import sys

from serving.runtime.native import library
from serving.runtime.native_cuda import library as cuda_library
from unroll.errors import DeviceError

if __name__ == "__main__":
    try:
        library.build()
        sys.stdout.write(f"compiled {library.LIBRARY}\n")
        if cuda_library.compiler():
            cuda_library.build()
            sys.stdout.write(f"compiled {cuda_library.LIBRARY}\n")
        else:
            sys.stdout.write("there is no nvcc, so nothing is compiled for CUDA\n")
    except DeviceError as error:
        sys.exit(str(error))
