"""Command line of the soak: `python -m tests.soak --help`."""

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.soak.reference import checker
from tests.soak.report import failures
from tests.soak.settings import SoakSettings
from tests.soak.soak import Soak
from unroll.bundle.folder import Bundle, load_bundle
from unroll.cli import run
from unroll.errors import UnrollError
from unroll.machine import processor
from unroll.record import settings_of

MODEL, SYMBOLS = "lstm-24x2", 31
OTHERS = ("gru-16x1", "gru-24x1")


def main(tokens: Sequence[str] | None = None) -> None:
    run(SoakSettings, soak, name="python -m tests.soak", tokens=tokens)


def soak(settings: SoakSettings) -> None:
    """Run a soak, show what was seen, and write it if asked for.

    Raises:
        SettingsError: a setting is out of its range.
        BundleError: the bundle is damaged.
        UnrollError: the soak has failed; the message tells why.
    """
    settings.validate()
    with _bundles(settings.bundle) as (bundle, *others), TemporaryDirectory() as folder:
        report = Soak(settings, bundle, others, Path(folder), checker(bundle, others)).run()
    for name, value in report.rows().items():
        print(f"{name:29} {value}")
    if settings.json is not None:
        record = {"processor": processor(), "settings": settings_of(settings), **report.rows()}
        text = json.dumps(record, indent=1, default=str)
        settings.json.write_text(text + "\n", encoding="utf-8")
    if wrong := failures(report):
        raise UnrollError("the soak has failed:\n  " + "\n  ".join([*wrong, *report.examples]))


@contextmanager
def _bundles(folder: Path | None) -> Iterator[list[Bundle]]:
    """Give the bundle in a folder, or one of random weights; and two others."""
    from benchmarks.harness.models import exported, random_checkpoint  # torch; clients do without

    first = [] if folder is None else [load_bundle(folder)]
    with ExitStack() as stack:
        names = OTHERS if first else (MODEL, *OTHERS)
        ways = [exported(random_checkpoint(name, SYMBOLS), "fp32") for name in names]
        yield first + [stack.enter_context(way) for way in ways]


if __name__ == "__main__":
    main()
