"""How much faster two workers are than one: the engine alone, on one core and on two."""

import statistics
from dataclasses import dataclass, field

from benchmarks.served.alone import symbols_per_second
from benchmarks.served.settings import ServedSettings
from serving.runtime.decoder import Decoder
from unroll.bundle.folder import Bundle

ROWS = 64  # in all


@dataclass(kw_only=True)
class Scaling:
    """Symbols a second of 64 rows, by the number of workers, of each repeat."""

    one: list[float] = field(default_factory=list)
    two: list[float] = field(default_factory=list)

    @property
    def factor(self) -> float:
        """Two workers' rate over one's, median of the repeats' ratios."""
        return statistics.median(two / one for one, two in zip(self.one, self.two, strict=True))


def measure_scaling(bundle: Bundle, decoder: Decoder, settings: ServedSettings) -> Scaling:
    """Measure one worker on one core and two workers on two, in turn."""
    scaling = Scaling()
    cores = [settings.worker_core, settings.loop_core]
    for _ in range(settings.repeats):
        for samples, used in ((scaling.one, cores[:1]), (scaling.two, cores)):
            samples.append(
                symbols_per_second(
                    bundle,
                    decoder,
                    rows=ROWS,
                    new_symbols=settings.new_symbols,
                    slots=settings.slots,
                    seconds=settings.seconds,
                    warm_up=settings.warm_up,
                    cores=used,
                )
            )
    return scaling
