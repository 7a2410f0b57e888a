"""What a training tells: why it ended, where it resumes, what its samples are."""

from pathlib import Path

import pytest

from tests.training.test_command import call, command


def told(tokens: list[str], capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Train, and return the lines that say so."""
    assert call(tokens) == 0
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--epochs=2"], "finished: all epochs are read (--epochs 2); "),
        (["--minutes=0.002"], "finished: the time is over (--minutes 0.002); "),
        (["--epochs=2", "--minutes=9"], "finished: all epochs are read (--epochs 2); "),
        (["--epochs=999999", "--minutes=0.002"], "finished: the time is over (--minutes 0.002); "),
        (
            ["--epochs=40", "--patience=2", "--learning-rate=1e-30"],
            "stopped early: no better loss in 2 validations (--patience); ",
        ),
    ],
)
def test_a_training_tells_why_it_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], reason: str
) -> None:
    lines = told(command(tmp_path, *arguments), capsys)
    assert lines[-1].startswith(reason)
    assert [line for line in lines if reason in line] == lines[-1:]


def test_one_update_is_counted_as_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = told(command(tmp_path, "--minutes=0.0000001"), capsys)
    assert "hardly trained: 1 update; give it more --minutes or --epochs" in lines
    assert "; 1 update, " in lines[-1]


@pytest.mark.parametrize(
    ("length", "where"), [("--epochs=1", ""), ("--minutes=0.002", " of the minutes")]
)
def test_compiling_that_took_long_is_told(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    length: str,
    where: str,
) -> None:
    monkeypatch.setattr("training.__main__.seconds_compiling", lambda: 27.6)
    text = " ".join(told(command(tmp_path, length), capsys))
    assert f"compiling the loops took 28 s{where}; later runs on this machine" in text
    monkeypatch.setattr("training.__main__.seconds_compiling", lambda: 0.4)
    assert "compiling the loops" not in " ".join(told(command(tmp_path, length), capsys))


def test_a_resumed_training_tells_where_it_stands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokens = command(tmp_path, "--epochs=2")
    (end,) = (line for line in told(tokens, capsys) if line.startswith("finished"))
    updates, best = end.split("; ")[1].split(", ")
    lines = told([*tokens, "--resume"], capsys)
    (begin,) = (line for line in lines if line.startswith("resumed"))
    assert begin.startswith(f"resumed after {updates} and ")
    assert begin.endswith(f", in epoch 2; {best}")
    assert any(line.startswith("nothing was left to do") for line in lines)


@pytest.fixture
def names(tmp_path: Path) -> Path:
    text = tmp_path / "names.txt"
    text.write_text("".join(f"{a}n{b}\n" for a in "abcdef" for b in "aeiouy"), "utf-8")
    return text


def test_records_are_counted_and_called_so(
    tmp_path: Path, names: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = told(command(tmp_path, "--records", "--epochs=1", f"--corpus={names}"), capsys)
    assert "128 symbols to train on, 16 to validate on, in 32 and 4 records" in lines[0]
    assert any(line.endswith("best") and " nats a record " in line for line in lines)


def test_samples_of_records_are_whole_lines(
    tmp_path: Path, names: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.run.recorder.sample", lambda *_, **__: ["ana\nbno\ncu"])
    told(
        command(tmp_path, "--records", "--epochs=1", f"--corpus={names}", "--sample-symbols=10"),
        capsys,
    )
    written = (tmp_path / "runs" / "names-gru" / "samples.txt").read_text("utf-8")
    assert "ana\nbno\n" in written
    assert "cu" not in written
