"""What a training asks of the machine: the precision of products, and freed memory kept."""

import ctypes
import sys
from typing import Literal

import torch

from unroll.errors import DeviceError

Precision = Literal["fp32", "tf32", "bf16"]
"""What the operands of products are rounded to."""

# Of malloc.h: no blocks of their own from the kernel, no memory given back, one arena.
M_MMAP_MAX, M_TRIM_THRESHOLD, M_ARENA_MAX = -4, -1, -8


def resolve_precision(asked: Precision | Literal["auto"], device: str) -> Precision:
    """Return the precision to train in.

    Args:
        asked: `fp32`; `tf32` (CUDA only) and `bf16`, which round the operands of products and sum
            in float32; or `auto`: bf16 where the processor multiplies it natively, else fp32.
        device: `cpu` or `cuda`.

    Raises:
        DeviceError: the device has no such products.
    """
    native = _native_bf16(device)
    if asked == "auto":
        return "bf16" if native else "fp32"
    if asked == "bf16" and not native:
        raise DeviceError(
            f"precision = 'bf16': this {device} device has no native bfloat16 products, so bf16 "
            "would be slower than float32; take --precision fp32 (or auto, which chooses)"
        )
    if asked == "tf32" and device != "cuda":
        raise DeviceError(
            "precision = 'tf32': only CUDA devices have it; take --precision fp32, bf16 or auto"
        )
    return asked


def apply_precision(precision: Precision) -> None:
    """Let CUDA's products of float32 round their operands to TF32, or forbid it."""
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.allow_tf32 = precision == "tf32"


def _native_bf16(device: str) -> bool:
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def keep_freed_memory() -> None:
    """Let the process keep freed memory and use it again, where the C library is glibc.

    A window's tensors are tens of megabytes, and glibc gives such blocks back to the kernel at
    once: every update of a GRU 512 then waited for about 25,000 page faults, a sixth of its time.
    The process keeps its highest use until it ends. On other systems nothing changes.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(M_ARENA_MAX, 1)
