#!/usr/bin/env bash
# Build the stand-ins for CUDA's libraries: bash build.sh FOLDER HEADERS
# HEADERS holds cuda_runtime_api.h. With onnxruntime-gpu, LD_LIBRARY_PATH=FOLDER runs its CUDA provider
# without a GPU: placement, captures, copies and their order are real, arithmetic is not.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
build() { # library, source, further flags; symbols get the library's name as their version
  g++ -std=c++17 -O1 -w -fPIC -shared -I"$headers" -o "$folder/$1" -x c++ "$2" -Wl,-soname,"$1" \
    -Wl,--default-symver "${@:3}"
}
folder=$(cd "$1" && pwd) headers=$2
runtime=(-Wl,--no-as-needed -L"$folder" -l:libcudart.so.13)
build libcudart.so.13 "$here/runtime.cpp"
build libcublas.so.13 "$here/blas.cpp" "${runtime[@]}"
build libcublasLt.so.13 "$here/blaslt.cpp" "${runtime[@]}"
build libcudnn.so.9 "$here/dnn.cpp" "${runtime[@]}"
build libcuda.so.1 "$here/driver.cpp"
build libcurand.so.10 /dev/null
build libcufft.so.12 /dev/null
