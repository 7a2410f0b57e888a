"""Command line of the soak: `python -m benchmarks.soak --help`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.live import Live

from benchmarks.soak.record import write_json, write_plot
from benchmarks.soak.reference import Reference, check
from benchmarks.soak.report import Report, failures
from benchmarks.soak.settings import SoakSettings
from benchmarks.soak.soak import Soak
from benchmarks.soak.table import as_table
from unroll.bundle.folder import Bundle, load_bundle
from unroll.cli import run
from unroll.errors import UnrollError

MODEL, SYMBOLS = "lstm-24x2", 31
INTERRUPTED = 130  # what a shell calls a process that Ctrl-C ended


def main(tokens: Sequence[str] | None = None) -> None:
    """Parse the command line and soak."""
    try:
        run(SoakSettings, soak, name="python -m benchmarks.soak", tokens=tokens)
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None


def soak(settings: SoakSettings) -> None:
    """Run a soak, show what was seen, and write what was asked for.

    Raises:
        SettingsError: a setting is out of its range.
        BundleError: the bundle is damaged.
        UnrollError: the soak has failed; the message tells why.
    """
    settings.validate()
    console = Console()
    with (
        _bundle(settings.bundle) as bundle,
        TemporaryDirectory() as folder,
        Live(as_table(settings, Report()), console=console, auto_refresh=False) as live,
    ):
        report = Soak(
            settings,
            bundle,
            Path(folder),
            partial(check, Reference(bundle)),
            lambda seen: live.update(as_table(settings, seen), refresh=True),
        ).run()
        live.update(as_table(settings, report), refresh=True)
    if settings.json is not None:
        write_json(settings.json, settings, report)
    if settings.plot is not None:
        write_plot(settings.plot, settings, report)
    wrong = failures(report)
    if wrong:
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
