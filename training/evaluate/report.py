"""The figures of an evaluation, for people and for programs."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.table import Table

from training.evaluate.adaptive import SEGMENT, Choice
from training.evaluate.held_out import HeldOut
from training.evaluate.interval import CONFIDENCE, block_interval, block_length
from training.evaluate.reading import WINDOW, Losses
from training.evaluate.served import Served
from unroll.errors import SettingsError, TrainingError

Protocol = Literal["stream", "window", "server", "adaptive", "apart"]

# A stream predicts each symbol from all that a window has, and more, so it should cost less: by
# 0.023 where this was measured (docs/reference/evaluation.md). If it costs more by as much, there
# is a reason.
STREAM_WORSE_BY = 0.02
# What a window loses by its cold start is bounded: 6 nats where this was measured, most of them on
# its first symbols. 0.1 a symbol is 26 nats, which is no cold start any more.
WINDOW_WORSE_BY = 0.1


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One protocol's figure: a mean over all symbols, in nats, and its 95 % interval.

    Attributes:
        protocol: how the text was read.
        nats: per symbol.
        low: end of the interval.
        high: end of the interval.
    """

    protocol: Protocol
    nats: float
    low: float
    high: float

    @classmethod
    def of(cls, protocol: Protocol, losses: Losses) -> "Figure":
        """Make a figure of what each symbol costs.

        Raises:
            TrainingError: a symbol's cost is not finite.
        """
        wrong = np.flatnonzero(~np.isfinite(losses))
        if len(wrong):
            raise TrainingError(
                f"{protocol}: the loss of symbol {wrong[0]:,} is {losses[wrong[0]]}: the model's "
                "state overflowed; continue the training with a lower learning rate or gradient "
                "clip"
            )
        low, high = block_interval(losses)
        return cls(protocol=protocol, nats=float(losses.mean()), low=low, high=high)

    @property
    def bits(self) -> float:
        """Bits per character."""
        return self.nats / math.log(2)


@dataclass(frozen=True, kw_only=True)
class Report:
    """An evaluation.

    Attributes:
        checkpoint: as it was named.
        held_out: what was read.
        figures: in the order in which they are shown.
        choice: how the adaptive figure's rate was chosen, if there is one.
        served: what the server said, if one was asked.
        device: where torch read.
        unknown: how many symbols were read as the model's unknown one.
    """

    checkpoint: str
    held_out: HeldOut
    figures: tuple[Figure, ...]
    choice: Choice | None
    served: Served | None
    device: str
    unknown: int = 0

    def warnings(self) -> list[str]:
        """Say in words what is odd about the figures."""
        nats = {figure.protocol: figure.nats for figure in self.figures}
        if "apart" in nats:
            return []
        apart, said = nats["stream"] - nats["window"], list[str]()
        if apart > STREAM_WORSE_BY:
            said.append(
                f"stream costs {apart:.3f} nats more than window, though it predicts every symbol "
                f"from more (allowed: {STREAM_WORSE_BY:g}): the carried state goes where training "
                "did not take it. The service reads streams, so stream is what users get; train "
                "longer, in longer windows or in fewer streams"
            )
        if -apart > WINDOW_WORSE_BY:
            said.append(
                f"window costs {-apart:.3f} nats more than stream (allowed: {WINDOW_WORSE_BY:g}), "
                "more than the first symbols of a window explain: the model cannot start from a "
                "zero state. New texts begin there"
            )
        if self.choice is not None and self.choice.is_at_an_end:
            said.append(
                f"adaptive: the rate {self.choice.adaptation.rate:g} is at the end of those that "
                "were tried; a better one may lie beyond"
            )
        return said

    def title(self) -> str:
        """Say what was read."""
        corpus, symbols = self.held_out.corpus, self.held_out.symbols
        return (
            f"{self.checkpoint} on {corpus.name}, split {self.held_out.split}: symbols "
            f"{symbols.start:,} to {symbols.stop:,} of {len(corpus):,}{self._of_a_unit()}"
            f"{self._of_unknown()}"
        )

    def _of_unknown(self) -> str:
        return f"; {self.unknown:,} read as the unknown symbol" if self.unknown else ""

    def _of_a_unit(self) -> str:
        units = self.held_out.units
        if units is None:
            return ""
        nats = self.figures[0].nats * units.symbols / units.count
        unit = self.held_out.unit
        return f"; {units.count:,} {unit}s, {nats:.3f} nats a {unit}"

    def table(self) -> Table:
        """Lay the figures out for people."""
        apart = "adaptive: the weights learn from the text; never compare it with the others"
        table = Table(caption=None if self.choice is None else apart)
        table.add_column("read as")
        table.add_column("nats per\ncharacter", justify="right")
        table.add_column(f"{CONFIDENCE:.0%} interval", justify="right")
        table.add_column("bits per\ncharacter", justify="right")
        table.add_column("how")
        for figure in self.figures:
            if figure.protocol == "adaptive":
                table.add_section()
            table.add_row(
                figure.protocol,
                f"{figure.nats:.4f}",
                f"{figure.low:.4f} to {figure.high:.4f}",
                f"{figure.bits:.4f}",
                self._what(figure.protocol),
            )
        return table

    def _what(self, protocol: Protocol) -> str:
        match protocol:
            case "stream":
                return "one text, state carried"
            case "window":
                return f"zero state every {WINDOW}"
            case "server":
                assert self.served is not None
                read = "stream" if self.held_out.units is None else "apart"
                return f"{read}, by {self.served.model}"
            case "adaptive":
                assert self.choice is not None
                chosen = self.choice.adaptation
                return f"rate {chosen.rate:g}, decay {chosen.decay:g}"
            case "apart":
                return f"zero state each {self.held_out.unit}"

    def as_json(self) -> dict[str, Any]:
        """Lay everything out for programs; losses are in nats per symbol."""
        held_out, choice, served = self.held_out, self.choice, self.served
        return {
            "format_version": 1,
            "checkpoint": self.checkpoint,
            "corpus": {"name": held_out.corpus.name, "sha256": held_out.corpus.sha256},
            "split": held_out.split,
            "symbols": {
                "first": held_out.symbols.start,
                "end": held_out.symbols.stop,
                "count": len(held_out.symbols),
                "unknown": self.unknown,
            },
            "device": self.device,
            "interval": {
                "confidence": CONFIDENCE,
                "block_symbols": block_length(len(held_out.symbols)),
            },
            "figures": {
                f.protocol: {"nats": f.nats, "bits": f.bits, "low": f.low, "high": f.high}
                for f in self.figures
            },
            "window_symbols": WINDOW,
            "adaptive": None if choice is None else _choice_as_json(choice),
            "server": None
            if served is None
            else {
                "target": served.target,
                "model": served.model,
                "fingerprint": served.fingerprint,
            },
            "warnings": self.warnings(),
        }

    def write(self, path: Path) -> None:
        """Write the figures as JSON.

        Raises:
            SettingsError: nothing can be written there.
        """
        try:
            path.write_text(json.dumps(self.as_json(), indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise SettingsError(
                f"{path}: cannot be written: {error.strerror}; change --json"
            ) from error


def _choice_as_json(choice: Choice) -> dict[str, Any]:
    return {
        **asdict(choice.adaptation),
        "segment_symbols": SEGMENT,
        "tuning": {
            "symbols": choice.symbols,
            "unadapted": choice.unadapted,
            "trials": [
                {
                    **asdict(trial.adaptation),
                    "loss": trial.loss if math.isfinite(trial.loss) else None,
                }
                for trial in choice.trials
            ],
        },
    }
