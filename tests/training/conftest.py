"""Small parts that the tests share; no network, no CORPUS_DIR."""

import hashlib
import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from rich.console import Console

from training.data.corpus.corpus import Corpus
from training.data.prepared import prepare_data
from training.log.progress import Reporter
from training.model.initialisation import build_model
from training.run.folder import RunFolder
from training.run.interrupt import StopRequest
from training.run.parallel import Group
from training.run.state import TrainingState
from training.run.trainer import Trainer
from training.settings import TrainingSettings

TEXT = "the tall man ate ham; a mat, a hat, a lamp! " * 20


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("CORPUS_DIR", raising=False)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def tiny_settings(**changes: object) -> TrainingSettings:
    """Settings of a training that takes a moment."""
    values: dict[str, object] = {
        "corpus": "tiny",
        "embedding_size": 3,
        "hidden_size": 5,
        "layers": 2,
        "streams": 7,
        "window": 11,
        "epochs": 4,
        "sample_symbols": 13,
        "threads": 1,
    }
    return TrainingSettings(**values | changes)  # type: ignore[arg-type]


def tiny_corpus(text: str = TEXT) -> Corpus:
    """A corpus of a few words."""
    return Corpus.of(name="tiny", text=text, sha256=hashlib.sha256(text.encode()).hexdigest())


class Room:
    """Builds trainings that write under one folder.

    Args:
        path: the folder.
        corpus: to train on; by default a few words.
    """

    def __init__(self, path: Path, corpus: Corpus | None = None) -> None:
        self.path, self.corpus = path, corpus or tiny_corpus()
        self.written = io.StringIO()

    def folder(self, name: str) -> RunFolder:
        """A run's folder, made if it is not there."""
        (self.path / name).mkdir(exist_ok=True)
        return RunFolder(self.path / name)

    def trainer(
        self,
        name: str,
        settings: TrainingSettings,
        *,
        state: TrainingState | None = None,
        stop: StopRequest | None = None,
        clock: Callable[[], float] | None = None,
        group: Group | None = None,
    ) -> Trainer:
        """A training as the command line builds it."""
        settings.validate()
        data = prepare_data(self.corpus, settings)
        torch.manual_seed(settings.seed)
        model = build_model(settings, len(data.vocabulary))
        reporter = Reporter(Console(file=self.written, width=200))
        return Trainer(
            settings,
            model,
            data,
            self.folder(name),
            reporter,
            state=state,
            stop=stop,
            clock=clock or time.monotonic,
            group=group,
        )


@pytest.fixture
def room(tmp_path: Path) -> Room:
    """A place for trainings."""
    return Room(tmp_path)
