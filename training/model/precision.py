"""What the operands of a training's products are rounded to."""

from typing import Literal

import torch

from unroll.errors import DeviceError

Precision = Literal["fp32", "tf32", "bf16"]


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
            f"precision = 'bf16': this {device} device multiplies no bfloat16 natively, so it "
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
