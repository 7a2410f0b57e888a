"""The whole road once, in small: a text becomes a run, a bundle, a server's text."""

from pathlib import Path

import numpy as np
import pytest

from export.compiler import export
from tests.serving.running import serve
from tests.training.conftest import TEXT
from training.__main__ import train
from training.model.sample import sample
from training.presets import preset_files
from training.run.checkpoint import load_checkpoint
from training.settings import TrainingSettings
from unroll.cli import run
from unroll.options import GenerateOptions

PROMPT, LENGTH = "the tall", 40


def test_served_text_is_that_of_the_trained_model(tmp_path: Path) -> None:
    (tmp_path / "fable.txt").write_text(TEXT, encoding="utf-8")
    sizes = ("--hidden-size=13", "--embedding-size=5", "--streams=2", "--window=11")
    tokens = [f"--corpus={tmp_path / 'fable.txt'}", f"--runs-dir={tmp_path}", "--name=fable"]
    with pytest.raises(SystemExit, match=r"^0$"):
        run(
            TrainingSettings, train, name="training", preset=preset_files,
            tokens=[*tokens, *sizes, "--epochs=20", "--threads=1", "--learning-rate=0.01"],
        )  # fmt: skip
    checkpoint = load_checkpoint(tmp_path / "fable")
    export(checkpoint, tmp_path / "bundle")
    with serve(str(tmp_path / "bundle")) as running, running.client() as client:
        options = GenerateOptions(max_new_symbols=LENGTH, temperature=0.0)
        served = client.generate(PROMPT, options).text
    (likeliest,) = sample(
        checkpoint.model(),
        checkpoint.vocabulary,
        prompt=PROMPT,
        uniforms=np.full((LENGTH, 1), 0.5),
        temperatures=[1e-4],  # almost none: the likeliest symbol has all the probability
    )
    assert len(set(served)) > 3
    assert served == likeliest
