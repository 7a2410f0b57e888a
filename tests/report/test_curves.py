"""The course of a training as its log tells it."""

import json
from pathlib import Path

import numpy as np
import pytest

from report.curves import POINTS, read_course, thin
from training.settings import TrainingSettings

SETTINGS = TrainingSettings(streams=2, window=5, minutes=1.0, gradient_clip=1.0)


def a_log(folder: Path) -> Path:
    records = [
        {"event": "update", "update": 1, "loss": 3.0, "gradient_norm": 0.5},
        {"event": "update", "update": 2, "loss": 2.0, "gradient_norm": 4.0},
        {"event": "milestone", "update": 2, "validation_loss": 2.5, "seconds": 6.0},
        {"event": "update", "update": 3, "loss": 1.5, "gradient_norm": 2.0},
        {"event": "rollback", "update": 3},
        {"event": "update", "update": 4, "loss": 2.5, "gradient_norm": 1.0},
        {"event": "milestone", "update": 4, "validation_loss": 2.75, "seconds": 8.0},
    ]
    path = folder / "metrics.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def test_course_is_that_of_the_log(tmp_path: Path) -> None:
    course = read_course(a_log(tmp_path), SETTINGS)
    assert course.characters.tolist() == [10, 20, 30, 40]
    assert course.seconds.tolist() == [3, 6, 7, 8]
    assert course.validation_characters.tolist() == [20, 40]
    assert (course.rollbacks, course.clipped) == (1, 0.5)
    assert course.characters_per_second == 5.0
    assert course.best_at == 0.75
    assert course.roughness == 1.0


def test_gradients_that_are_not_cut_are_not_counted_as_cut(tmp_path: Path) -> None:
    uncut = TrainingSettings(streams=2, window=5, minutes=1.0, gradient_clip=0.0)
    assert read_course(a_log(tmp_path), uncut).clipped == 0.0


@pytest.mark.parametrize("count", [1, 7, POINTS, 10 * POINTS])
def test_a_thinned_curve_keeps_its_ends(count: int) -> None:
    values = np.arange(count, dtype=np.float64)
    thinned = thin(values)
    assert len(thinned) == min(count, POINTS)
    assert (thinned[0], thinned[-1]) == (0, count - 1)
    assert (np.diff(thinned) > 0).all()
