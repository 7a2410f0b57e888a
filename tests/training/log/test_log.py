"""What a person sees: progress, curves, the metrics log."""

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from training.log.metrics import Metrics, MetricsLog, read_metrics
from training.log.plot import rolling_average
from training.log.progress import Reporter, duration

METRICS = Metrics(update=7, epoch=1, training_loss=2.0, validation_loss=1.5, seconds=65.0)


def test_plain_output_has_a_line_now_and_then_and_samples_now_and_then() -> None:
    now, written = [0.0], io.StringIO()
    with Reporter(Console(file=written, width=200), clock=lambda: now[0]) as reporter:
        for now[0] in (0.0, 1.0, 2.0, 11.0):
            reporter.update(0.5, 2.0, 1e-3, 12345.0, 60.0)
            reporter.milestone(METRICS, f"sample at {now[0]:g}", is_best=True)
    text = written.getvalue()
    assert text.count("12,345 symbols/s  1m00s left") == 2
    assert text.count("validation 1.5000  2.164 bits per character  1m05s  best") == 4
    assert [s for s in ("0", "1", "2", "11") if f"sample at {s}\n" in text] == ["0", "11"]


def test_a_terminal_gets_a_live_bar_and_markup_in_samples_is_just_text() -> None:
    written = io.StringIO()
    with Reporter(Console(file=written, width=120, force_terminal=True)) as reporter:
        reporter.update(0.25, 2.0, 1e-3, 12345.0, 60.0)
        reporter.milestone(METRICS, "[red]he said[/red]", is_best=False)
    assert "25%" in written.getvalue()
    assert "[red]he said[/red]" in written.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"), [(7.4, "7s"), (185, "3m05s"), (7800, "2h10m"), (float("inf"), "?")]
)
def test_durations_are_written_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_rolling_average_is_that_of_each_stretch() -> None:
    values = np.array([1.0, 2.0, 6.0, 4.0])
    assert rolling_average(values, 2).tolist() == [1.5, 4.0, 5.0]
    assert rolling_average(values, 4).tolist() == [3.25]


def test_a_log_is_whole_whenever_the_process_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    for update in (1, 2, 3):
        log.update(update, 0.5, 0.1, 1.0)
    log.close()

    def killed(record: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("json.dumps", killed)
    with pytest.raises(KeyboardInterrupt):
        MetricsLog(log.path).rewind(2)
    assert [record["update"] for record in read_metrics(log.path)] == [1, 2, 3]


def test_a_log_forgets_what_will_be_done_again_and_a_line_cut_off(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    for update in (1, 2, 3):
        log.update(update, 0.5, 0.1, 1.0)
    log.close()
    with log.path.open("a", encoding="utf-8") as file:
        file.write('{"event": "upd')
    log = MetricsLog(log.path)
    log.rewind(2, rate_scale=0.5)
    log.close()
    assert [(r["event"], r["update"]) for r in read_metrics(log.path)] == [
        ("update", 1),
        ("update", 2),
        ("rollback", 2),
    ]
