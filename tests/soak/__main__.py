"""Command line of the soak: `python -m tests.soak --help`."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.soak.reference import Reference, check
from tests.soak.report import failures
from tests.soak.settings import SoakSettings
from tests.soak.soak import Soak
from unroll.bundle.folder import Bundle, load_bundle
from unroll.cli import run
from unroll.errors import UnrollError
from unroll.machine import processor
from unroll.record import settings_of

MODEL, SYMBOLS = "lstm-24x2", 31


def main(tokens: Sequence[str] | None = None) -> None:
    """Parse the command line and soak."""
    run(SoakSettings, soak, name="python -m tests.soak", tokens=tokens)


def soak(settings: SoakSettings) -> None:
    """Run a soak, show what was seen, and write it if asked for.

    Raises:
        SettingsError: a setting is out of its range.
        BundleError: the bundle is damaged.
        UnrollError: the soak has failed; the message tells why.
    """
    settings.validate()
    with _bundle(settings.bundle) as bundle, TemporaryDirectory() as folder:
        report = Soak(settings, bundle, Path(folder), partial(check, Reference(bundle))).run()
    for name, value in report.rows().items():
        print(f"{name:29} {value}")
    if settings.json is not None:
        record = {"processor": processor(), "settings": settings_of(settings), **report.rows()}
        text = json.dumps(record, indent=1, default=str)
        settings.json.write_text(text + "\n", encoding="utf-8")
    if wrong := failures(report):
        raise UnrollError("the soak has failed:\n  " + "\n  ".join([*wrong, *report.examples]))


@contextmanager
def _bundle(folder: Path | None) -> Iterator[Bundle]:
    if folder is not None:
        yield load_bundle(folder)
        return
    from benchmarks.models import exported, random_checkpoint  # torch; clients do without

    with exported(random_checkpoint(MODEL, SYMBOLS), "fp32") as bundle:
        yield bundle


if __name__ == "__main__":
    main()
