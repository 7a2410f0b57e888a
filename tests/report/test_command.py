"""`python -m report`: what it trains, what it reuses, what it refuses."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from report.__main__ import make_report
from report.curves import read_course
from report.settings import CELLS, ReportSettings, training_settings
from report.trainings import FINISHED, ensure_trained
from tests.report.conftest import SECONDS, Made
from training.data.corpus.corpus import load_corpus
from training.presets import preset_settings
from training.run.checkpoint import load_checkpoint
from training.run.folder import RunFolder
from training.settings import TrainingSettings
from unroll.cli import run
from unroll.errors import CorpusError, SettingsError, TrainingError

TEXT = "the tall man ate ham; a mat, a hat, a lamp! " * 200


@pytest.mark.slow
def test_models_are_trained_alike_but_for_their_cell(made: Made) -> None:
    settings = {
        cell: load_checkpoint(made.folder / "trainings" / cell).training_settings for cell in CELLS
    }
    assert [each.cell for each in settings.values()] == ["rnn_tanh", "gru", "lstm"]
    assert (
        len({(each.minutes, each.seed, each.validation_fraction) for each in settings.values()})
        == 1
    )
    assert "index.html: the report in one file" in made.printed


@pytest.mark.slow
@pytest.mark.usefixtures("in_process")
def test_finished_trainings_of_a_report_are_reused_by_the_next_one(made: Made) -> None:
    report = ReportSettings(minutes=SECONDS / 60, out=made.folder.parent)
    corpus, said = load_corpus("casebook"), list[str]()
    for cell in CELLS:
        settings = training_settings(cell, report, len(corpus.text))
        folder = ensure_trained(settings, corpus, fresh=False, say=said.append)
        assert folder.path == made.folder / "trainings" / cell
    assert ["finished with the same settings, is reused" in line for line in said] == [True] * 3


def tiny(folder: Path, text: Path) -> TrainingSettings:
    values: dict[str, object] = {
        "corpus": str(text), "runs_dir": folder, "name": "tiny", "epochs": 1, "hidden_size": 5,
        "embedding_size": 3, "streams": 7, "window": 11, "threads": 1, "sample_symbols": 13,
    }  # fmt: skip
    return TrainingSettings(**values)  # type: ignore[arg-type]


def exploding(settings: TrainingSettings) -> TrainingSettings:
    return replace(
        settings, cell="rnn_relu", learning_rate=10.0, gradient_clip=0.0, warmup_fraction=0.0,
        epochs=30,
    )  # fmt: skip


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.mark.slow
def test_training_starts_as_a_process_of_its_own(tmp_path: Path, text: Path) -> None:
    settings = tiny(tmp_path / "runs", text)
    folder = ensure_trained(settings, load_corpus(str(text)), fresh=False, say=list[str]().append)
    assert folder.best.is_file()


@pytest.mark.slow
@pytest.mark.usefixtures("in_process")
def test_only_a_finished_training_of_the_same_settings_and_text_is_reused(
    tmp_path: Path, text: Path
) -> None:
    settings, said = tiny(tmp_path / "runs", text), list[str]()

    def is_reused(*, fresh: bool = False) -> bool:
        before, corpus = len(said), load_corpus(str(text))
        assert ensure_trained(settings, corpus, fresh=fresh, say=said.append).best.is_file()
        return len(said) > before

    assert not is_reused()
    assert is_reused()
    assert not is_reused(fresh=True)
    text.write_text(TEXT + "More.", encoding="utf-8")
    assert not is_reused()
    explosive = exploding(settings)
    with pytest.raises(TrainingError, match=r"the training of rnn_relu with .*tiny\.toml failed"):
        ensure_trained(explosive, load_corpus(str(text)), fresh=False, say=said.append)
    # What failed is not taken for finished.
    assert not (tmp_path / "runs" / "tiny" / FINISHED).exists()


@pytest.mark.slow
@pytest.mark.usefixtures("in_process")
def test_a_training_that_exploded_too_often_is_shown_if_that_is_wanted(
    tmp_path: Path, text: Path
) -> None:
    settings, said = exploding(tiny(tmp_path / "runs", text)), list[str]()

    def train(settings: TrainingSettings) -> RunFolder:
        corpus = load_corpus(str(text))
        return ensure_trained(settings, corpus, fresh=False, say=said.append, explosions=True)

    # Before its first validation it has no weights to show.
    with pytest.raises(TrainingError, match=r"the training of rnn_relu with .*tiny\.toml failed"):
        train(settings)
    settings = replace(settings, hidden_size=40, epochs=10, warmup_fraction=0.9, validate_every=2)
    course = read_course(train(settings).metrics, settings)
    assert (course.rollbacks, course.given_up) == (3, True)
    assert np.isfinite(course.validation_loss).any()
    assert "it exploded" in said[-1]
    train(settings)
    assert "is reused" in said[-1]


def test_settings_of_a_training_say_what_was_asked_for(tmp_path: Path) -> None:
    report = ReportSettings(
        corpus="sherlock", minutes=2.0, seed=7, out=tmp_path, training_preset="cpu"
    )
    settings = training_settings("lstm", report, 3_000_000)
    settings.validate()
    assert (settings.members, settings.respell_names, settings.streams) == (1, 0.0, 64)
    assert (settings.cell, settings.minutes, settings.seed) == ("lstm", 2.0, 7)
    assert settings.snapshots
    assert settings.validation_fraction * 3_000_000 == pytest.approx(40_000)
    assert training_settings("gru", report, 50_000).validation_fraction == 0.1
    assert settings.runs_dir == tmp_path / "sherlock" / "trainings"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"minutes": 0.0}, r"minutes = 0\.0: must be above 0"),
        ({"minutes": float("nan")}, r"minutes = nan: must be above 0"),
        ({"seed": -1}, r"seed = -1: must be at least 0 and below"),
        ({"threads": 0}, r"threads = 0: must be 1 to 1024"),
    ],
)
def test_a_setting_out_of_range_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        ReportSettings(**changes).validate()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("corpus", "message"),
    [
        ("sherlok", "did you mean 'sherlock'"),
        ("short.txt", "symbols are held out, a report needs 4,000"),
    ],
)
def test_a_corpus_that_will_not_do_is_refused_before_anything_is_trained(
    tmp_path: Path, corpus: str, message: str
) -> None:
    if corpus.endswith(".txt"):
        (tmp_path / corpus).write_text(TEXT, encoding="utf-8")
        corpus = str(tmp_path / corpus)
    with pytest.raises(CorpusError, match=message):
        make_report(ReportSettings(corpus=corpus, out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("setting", ["out", "pages"])
def test_folder_that_cannot_be_made_is_refused(tmp_path: Path, setting: str) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    folders = {"out": tmp_path / "out", setting: tmp_path / "file" / "in it"}
    with pytest.raises(SettingsError, match=f"{setting} = .*cannot be made: .*change --{setting}"):
        make_report(ReportSettings(**folders))  # type: ignore[arg-type]
    assert list(tmp_path.rglob("*.toml")) == []


def test_trainings_take_their_settings_from_the_preset_that_is_asked_for() -> None:
    given: list[ReportSettings] = []
    with pytest.raises(SystemExit):
        run(ReportSettings, given.append, name="report", tokens=["--training-preset", "cpu"])
    for cell in CELLS:
        preset, taken = preset_settings("cpu", cell), training_settings(cell, given[0], 10**6)
        assert (taken.hidden_size, taken.layers) == (preset.hidden_size, preset.layers)
        assert taken.learning_rate == preset.learning_rate
    with pytest.raises(SettingsError, match="no such preset"):
        training_settings("gru", ReportSettings(training_preset="cpus"), 10**6)
