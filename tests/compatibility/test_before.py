"""Bundles, capsules, sessions and checkpoints of version 0.1 go on being valid, bit for bit.

`before/` was written by version 0.1.0: two bundles of 5,000 weights, a server's folder of sessions,
capsules, a checkpoint that can be resumed, and in texts.json what that server wrote from them.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from export.compiler import export
from tests.serving.running import RunningServer, serve
from tests.training.conftest import Room
from training.__main__ import train
from training.data.corpus.corpus import load_corpus
from training.run.checkpoint import load_checkpoint
from training.run.trainer import Outcome
from training.settings import TrainingSettings
from unroll.bundle.folder import load_bundle
from unroll.bundle.manifest import DECODE, STEP, WEIGHTS
from unroll.client.client import Client
from unroll.options import GenerateOptions, ScoreOptions

BEFORE = Path(__file__).with_name("before")
WRITTEN: dict[str, dict[str, Any]] = json.loads((BEFORE / "texts.json").read_text("utf-8"))
MODELS = ("gru", "lstm")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server of today on the folders of then."""
    folder = tmp_path_factory.mktemp("before")
    shutil.copytree(BEFORE / "state", folder / "state")
    with serve(
        f"gru={BEFORE / 'gru'}",
        f"lstm={BEFORE / 'lstm-int8'}",
        state_dir=folder / "state",
        capsule_keys=BEFORE / "keys",
        session_idle_seconds=0.0,
    ) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[Client]:
    with server.client() as made:
        yield made


def options(name: str, symbols: int, **changes: Any) -> GenerateOptions:
    then = WRITTEN[name]
    values = {key: then[key] for key in ("seed", "temperature", "top_p")} | changes
    return GenerateOptions(model=name, max_new_symbols=symbols, **values)


@pytest.mark.parametrize("name", MODELS)
def test_bundle_keeps_its_fingerprint_and_its_texts(client: Client, name: str) -> None:
    then = WRITTEN[name]
    now = client.generate(
        then["prompt"], options(name, len(then["text"]), log_probs=True, stop=("qqq",))
    )
    assert now.completion.fingerprint == then["fingerprint"]
    assert now.text == then["text"]
    # Another processor may round otherwise; the texts above must be equal all the same.
    assert now.log_probs == pytest.approx(then["log_probs"], abs=1e-3)
    plain = GenerateOptions(
        model=name, max_new_symbols=len(then["plain"]["text"]), seed=then["plain"]["seed"]
    )
    assert client.generate(then["prompt"], plain).text == then["plain"]["text"]


@pytest.mark.parametrize("name", MODELS)
def test_score_is_what_it_was(client: Client, name: str) -> None:
    then = WRITTEN[name]["score"]
    now = client.score(then["text"], ScoreOptions(model=name))
    assert now.bits_per_character == pytest.approx(then["bits_per_character"], abs=1e-3)


@pytest.mark.parametrize("name", MODELS)
def test_capsule_goes_on(client: Client, name: str) -> None:
    then = WRITTEN[name]
    left = then["text"][then["split"] :]
    now = client.generate(
        "",
        GenerateOptions(max_new_symbols=len(left)),
        capsule=bytes.fromhex(then["capsule"]),
    )
    assert now.text == left


@pytest.mark.parametrize("name", MODELS)
def test_session_of_a_state_dir_goes_on(client: Client, name: str) -> None:
    then = WRITTEN[name]
    left = then["text"][then["split"] :]
    now = client.generate("", GenerateOptions(max_new_symbols=len(left)), session=then["session"])
    assert now.text == left
    assert now.completion.position == then["session_position"] + len(left)


def test_checkpoint_exports_to_the_same_model(tmp_path: Path) -> None:
    before = load_bundle(BEFORE / "gru")
    now = export(load_checkpoint(BEFORE / "run" / "best.safetensors"), tmp_path / "gru")
    # Filters are computed otherwise since 0.2, and a boundary may fall on another symbol.
    for name in (STEP, DECODE, WEIGHTS):
        assert now.manifest.files[name] == before.manifest.files[name], name
    assert now.manifest.fingerprint != before.manifest.fingerprint


def test_training_goes_on(tmp_path: Path) -> None:
    then = load_checkpoint(BEFORE / "run" / "last.safetensors")
    assert then.state is not None
    epochs = then.state.progress.position.epoch + 1
    settings = replace(then.training_settings, minutes=0.0, epochs=epochs, threads=1)
    shutil.copytree(BEFORE / "run", tmp_path / "run")
    room = Room(tmp_path, load_corpus("casebook"))
    trainer = room.trainer("run", settings, state=then.state)
    assert trainer.run() is Outcome.FINISHED
    now = load_checkpoint(tmp_path / "run" / "last.safetensors")
    assert now.metrics.update > then.metrics.update
    # Weights, optimizer and text are those of then: one epoch at a low rate changes little.
    assert now.metrics.validation_loss == pytest.approx(then.metrics.validation_loss, abs=0.02)


def test_finished_training_is_resumed_and_its_weights_stay(tmp_path: Path) -> None:
    shutil.copytree(BEFORE / "run", tmp_path / "compat-gru")
    train(TrainingSettings(resume=True, name="compat-gru", runs_dir=tmp_path))
    before, now = (
        load_checkpoint(run / "last.safetensors")
        for run in (BEFORE / "run", tmp_path / "compat-gru")
    )
    assert now.metrics.update == before.metrics.update
    assert all(torch.equal(weight, before.weights[name]) for name, weight in now.weights.items())
