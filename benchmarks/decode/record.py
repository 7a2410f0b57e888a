"""What a run of the benchmark measured: one JSON file a model and vocabulary.

decode-DEVICE-MODEL-vV.json   format version, machine, settings, points with every sample
"""

import statistics
from dataclasses import dataclass, field

from unroll.record import Record

LOOP, PRODUCTS, READ = "loop", "products", "read"
TORCH = "torch"
NATIVE = "native"  # the loop by the native kernels
FP32_LOOP = "loop in fp32"  # timed beside a lower precision
OURS = (LOOP, NATIVE, FP32_LOOP, PRODUCTS, READ)
WORSE_AT_MOST = 0.005  # nats a symbol; an export in 8 bits may not lose more


@dataclass(frozen=True, kw_only=True)
class Point:
    """The samples of one model at one batch size and precision."""

    model: str  # CELL-HIDDENxLAYERS
    vocabulary: int  # V
    batch: int  # N
    precision: str
    microseconds: dict[str, list[float]]  # per step of the whole batch: loop, limits, peers
    setups: dict[str, str]  # that each peer was measured in, the fastest of its trials
    trials: dict[str, dict[str, float]]  # microseconds per step of each setup, one run
    not_run: dict[str, str]  # peers that did not run, and why
    # What 8 bits lose, in nats a symbol, in the loop and in each setup of a peer.
    losses: dict[str, float] = field(default_factory=dict)

    def median(self, way: str) -> float:
        """Median microseconds per step of one way."""
        return statistics.median(self.microseconds[way])

    @property
    def peers(self) -> list[str]:
        """The peers that ran."""
        return [way for way in self.microseconds if way not in OURS]

    @property
    def best_peer(self) -> str | None:
        """The fastest peer, if any ran."""
        return min(self.peers, key=self.median, default=None)

    def over_loop(self, way: str, loop: str = LOOP) -> float:
        """Time of a way over that of a loop: above 1, the loop is faster."""
        return self.median(way) / self.median(loop)

    def over_products(self, loop: str = LOOP) -> float:
        """Time of a loop over that of its matrix products alone."""
        return self.median(loop) / self.median(PRODUCTS)

    @property
    def symbols_per_second(self) -> float:
        """What the loop writes, all rows together."""
        return self.batch / self.median(LOOP) * 1e6


@dataclass(frozen=True, kw_only=True)
class DecodeRecord(Record):
    """One run; the points in the order in which they were measured."""

    device: str
    gigabytes_per_second: float  # one thread reading a block far larger than the caches
    points: list[Point]
    has_amx: bool = False


def file_name(device: str, model: str, vocabulary: int) -> str:
    """Name of the file of one model."""
    return f"decode-{device}-{model}-v{vocabulary}.json"
