"""The command `unroll report`: train three models on a text and compare them on one page."""

import os
import platform
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from report.authors.authors import fair, whose_is_it
from report.authors.library import others
from report.material import read_texts
from report.measures.measurements import measure
from report.page.page import write_page
from report.settings import CELLS, ReportSettings, training_settings
from report.subject import read_subjects
from report.trainings import ensure_trained
from training.data.corpus.corpus import load_corpus
from training.data.decoding.decode import Rules
from unroll.cli import run
from unroll.errors import SettingsError


def make_report(settings: ReportSettings) -> None:
    """Train what is not trained yet, measure and write the page.

    Raises:
        UnrollError: a setting or the corpus is wrong, or a training failed.
    """
    settings.validate()
    console = Console()

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    torch.set_num_threads(settings.threads)
    corpus = load_corpus(settings.corpus, Rules(encoding=settings.encoding))
    planned = [training_settings(cell, settings, len(corpus.text)) for cell in CELLS]
    # What the corpus is too short for shall be told before anything is trained.
    texts = read_texts(corpus, planned[0])
    writings = fair({corpus.name: corpus.text, **others(corpus)})
    _make(settings.folder, "out")
    pages = settings.pages or settings.folder
    _make(pages, "pages")
    trained = [
        (each, ensure_trained(each, corpus, fresh=settings.fresh, say=say, explosions=True))
        for each in planned
    ]
    verdicts = whose_is_it(writings, settings, say)
    measurements = measure(texts, read_subjects(trained), settings.seed, say)
    page = write_page(measurements, verdicts, _made(settings), pages)
    say(f"{page}: the report in one file; report.md and its images lie beside it")


def _make(folder: Path, setting: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"{setting} = {str(folder)!r}: cannot be made: {error.strerror}; change --{setting}"
        ) from error


def _made(settings: ReportSettings) -> dict[str, str]:
    return {
        "command": f"unroll report --corpus {settings.corpus} --minutes {settings.minutes:g}",
        "machine": f"{os.cpu_count()} cores of {platform.machine()} with "
        f"{torch.backends.cpu.get_cpu_capability()}, {settings.threads} in use; "
        f"torch {torch.__version__}",
    }


def main(tokens: Sequence[str] | None = None) -> None:
    """Run the command line."""
    run(ReportSettings, make_report, name="unroll report", tokens=tokens)


if __name__ == "__main__":
    main()
