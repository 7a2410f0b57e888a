"""Compile the native loop: `make kernels`, or `python -m serving.runtime.native`."""

import sys

from serving.runtime.native.library import LIBRARY, build
from unroll.errors import DeviceError

if __name__ == "__main__":
    try:
        build()
    except DeviceError as error:
        sys.exit(str(error))
    sys.stdout.write(f"compiled {LIBRARY}\n")
