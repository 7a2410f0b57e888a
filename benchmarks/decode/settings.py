"""Everything that can be set about the decode benchmark."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from benchmarks.harness.models import GRID
from benchmarks.harness.settings import check_settings
from serving.runtime.kernels import Kernels
from unroll.errors import SettingsError
from unroll.ranges import Range

PRECISIONS = {"cpu": ("fp32", "int8"), "cuda": ("fp32", "fp16")}


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class DecodeSettings:
    """Measure the decode loop beside its matrix products and other runtimes."""

    model: tuple[str, ...] = GRID
    """Models as CELL-HIDDENxLAYERS; their weights are random."""

    vocabulary: Annotated[tuple[int, ...], Range(2)] = (66,)
    """Sizes of the vocabulary."""

    batch: Annotated[tuple[int, ...], Range(1)] = (1, 16, 64)
    """Batch sizes."""

    precision: tuple[Literal["fp32", "int8", "fp16"], ...] = ("fp32",)
    """Precisions of the bundle, int8 on the CPU and fp16 on CUDA; the peers run beside fp32."""

    peer: tuple[Literal["torch", "operators", "jax", "openvino"], ...] = (
        "torch",
        "operators",
    )
    """Runtimes to measure beside the loop; operators are ONNX Runtime's own."""

    kernels: Kernels = Kernels.ONNX
    """`native` also measures the loop by the native kernels, which `make kernels` compiles."""

    steps: Annotated[int, Range(1)] = 32
    """Symbols a row in one measurement, and in one run of the loop."""

    repeats: Annotated[int, Range(1)] = 7
    """Measurements of each way; the median counts."""

    device: Literal["cpu", "cuda"] = "cpu"
    """Where the loop, its products, torch and the operators compute."""

    core: int | None = None
    """Processor core to stay on; by default the last one."""

    json: Path | None = None
    """Folder where to write machine, versions and every sample, a file a model and vocabulary."""

    def validate(self) -> None:
        """Check what would end the measuring halfway.

        Raises:
            SettingsError: as check_settings, or the device does not compute in a precision.
        """
        check_settings(self)
        for precision in self.precision:
            if precision not in PRECISIONS[self.device]:
                raise SettingsError(
                    f"precision = {precision!r}: is not computed on {self.device}; take "
                    f"{' or '.join(PRECISIONS[self.device])}, or another --device"
                )
