"""What can be set about a report, and what its models are trained with."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from training.presets import preset_settings
from training.settings import SEED_LIMIT, Cell, TrainingSettings
from unroll.ranges import Range, check_ranges

CELLS: tuple[Cell, ...] = ("rnn_tanh", "gru", "lstm")
"""The cells that are compared, in this order."""

TITLES: dict[Cell, str] = {
    "rnn_tanh": "vanilla RNN",
    "rnn_relu": "vanilla RNN (ReLU)",
    "gru": "GRU",
    "lstm": "LSTM",
}
HELD_OUT = 40_000  # symbols; more would cost minutes at validations and tell little more
HELD_OUT_SHARE = 0.1  # of a short text
AUTHOR_SYMBOLS_PER_MINUTE = 400_000  # read by an author's model, for each minute of `minutes`
AUTHOR_SYMBOLS_AT_LEAST = 20_000


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ReportSettings:
    """Train a vanilla RNN, a GRU and an LSTM on a text and write a page that compares them."""

    corpus: str = "casebook"
    """Name of a corpus (casebook, sherlock, shakespeare, tinyshakespeare) or path of a text."""

    encoding: str = "utf-8"
    """Encoding of the text."""

    training_preset: str = "quick"
    """Preset for the other settings of the three trainings. It may differ from cell to cell."""

    minutes: Annotated[float, Range(above=0, most=24 * 60)] = 3.0
    """Length of each of the three trainings, in minutes."""

    out: Path = Path("reports")
    """Folder to write to. A folder named after the corpus is made in it."""

    pages: Path | None = None
    """Folder for the pages and their images. Default: the folder of the trainings."""

    fresh: bool = False
    """Train again even if finished trainings with the same settings are in the folder."""

    seed: Annotated[int, Range(0, below=SEED_LIMIT)] = 25
    """Seed of all random numbers."""

    threads: Annotated[int, Range(1, 1024)] = 1
    """Number of threads. Use 1 on a busy processor."""

    def validate(self) -> None:
        """Check every range.

        Raises:
            SettingsError: one is broken; the message names the setting, its value and the range.
        """
        check_ranges(self)

    @property
    def folder(self) -> Path:
        """Where the report lies."""
        return self.out / Path(self.corpus).stem


def training_settings(cell: Cell, report: ReportSettings, symbols: int) -> TrainingSettings:
    """Return the settings of one of the trainings that are compared.

    Each is one network on the text as it is, whatever the preset does to win.

    Args:
        cell: one of CELLS.
        report: what was asked for.
        symbols: length of the text.
    """
    changes: dict[str, Any] = {
        "cell": cell,
        "corpus": report.corpus,
        "encoding": report.encoding,
        "minutes": report.minutes,
        "epochs": 0,
        "members": 1,
        "respell_names": 0.0,
        "name": cell,
        "runs_dir": report.folder / "trainings",
        "snapshots": True,
        "validation_fraction": min(HELD_OUT_SHARE, HELD_OUT / symbols),
        "validate_every": min(100, max(5, round(60 * report.minutes))),
        "seed": report.seed,
        "threads": report.threads,
    }
    return replace(preset_settings(report.training_preset, cell), **changes)


def author_settings(
    name: str, corpus: Path, report: ReportSettings, symbols: int
) -> TrainingSettings:
    """Return the settings of an author's small model; all read as many symbols.

    Args:
        name: of the author.
        corpus: the author's text.
        report: what was asked for.
        symbols: that there are to train on, of each author as many.
    """
    to_read = AUTHOR_SYMBOLS_PER_MINUTE * report.minutes
    symbols = min(symbols, max(AUTHOR_SYMBOLS_AT_LEAST, round(to_read)))
    changes: dict[str, Any] = {
        "corpus": str(corpus),
        "max_symbols": symbols,
        "hidden_size": 128,
        "epochs": max(1, round(to_read / symbols)),
        "minutes": 0.0,
        "name": name,
        "runs_dir": report.folder / "authors",
        "validation_fraction": 0.0,
        "validate_every": 0,
        "sample_symbols": 0,
        "seed": report.seed,
        "threads": report.threads,
    }
    return replace(preset_settings("quick", "gru"), **changes)
