"""Trainings that a report stands on: started as a person would, or found finished."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from training.data.corpus.corpus import Corpus
from training.run.folder import RunFolder
from training.settings import TrainingSettings
from unroll.errors import ExplosionError, TrainingError

FINISHED = "finished.json"
STOPPED = 130  # what the training ends with after Ctrl-C


def ensure_trained(
    settings: TrainingSettings,
    corpus: Corpus,
    *,
    fresh: bool,
    say: Callable[[str], None],
    explosions: bool = False,
) -> RunFolder:
    """Train, unless a training with these settings on this text lies there finished.

    The settings are written beside the run's folder, as NAME.toml, and the training is started
    with them: `unroll train --config NAME.toml` does the same by hand.

    Args:
        settings: validated settings of the training.
        corpus: the text that they name.
        fresh: train in any case.
        say: is told which of the two it was.
        explosions: take a training that exploded too often for finished, if it left weights that
            were validated before.

    Raises:
        TrainingError: the training failed or was stopped; it has told why.
    """
    folder = RunFolder(settings.runs_dir / settings.run_name)
    record = {"settings": _plain(settings), "corpus_sha256": corpus.sha256}
    marker = folder.path / FINISHED
    if not fresh and marker.is_file() and json.loads(marker.read_text("utf-8")) == record:
        say(f"{folder.path}: finished with the same settings, is reused (--fresh trains again)")
        return folder
    config = _write(settings)
    command = [sys.executable, "-m", "unroll", "train", "--config", str(config)]
    done = subprocess.run(command, check=False)
    if explosions and done.returncode == ExplosionError.exit_status and folder.best.is_file():
        say(f"{folder.path}: it exploded; the report shows its best weights and says so")
    elif done.returncode:
        why = "was stopped" if done.returncode == STOPPED else "failed, see above"
        raise TrainingError(
            f"the training of {settings.cell} with {config} {why}; what is finished will be reused "
            "when the report is made again"
        )
    marker.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return folder


def _plain(settings: TrainingSettings) -> dict[str, Any]:
    return {
        name.rstrip("_"): str(value) if isinstance(value, Path) else value  # as --from is named
        for name, value in asdict(settings).items()
    }


def _write(settings: TrainingSettings) -> Path:
    settings.runs_dir.mkdir(parents=True, exist_ok=True)
    path = settings.runs_dir / f"{settings.run_name}.toml"
    # Strings, numbers and truth values are written in TOML as they are in JSON.
    lines = [f"{name} = {json.dumps(value)}\n" for name, value in _plain(settings).items()]
    path.write_text("".join(lines), encoding="utf-8")
    return path
