"""Commands over many records: the same from a server and a bundle, and after any break."""

import io
import json
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from serving.local.model import LocalModel, load
from tests.serving.running import RunningServer, wait_for
from training.settings import Cell
from unroll.__main__ import main
from unroll.files import hold
from unroll.options import GenerateOptions

PROMPTS = ["a", "", "bad cab", "x", "fed"] * 8  # one in five has an unknown symbol
FLAGS = ("--seed", "9", "--max-new-symbols", "40", "--stop", "d")
Captured = pytest.CaptureFixture[str]
Run = Callable[..., int]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    def call(*arguments: object, stdin: bytes = b"") -> int:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as ended:
            return int(ended.code or 0)
        return 0

    return call


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    file = tmp_path / "prompts.txt"
    file.write_text("".join(f"{prompt}\n" for prompt in PROMPTS), encoding="utf-8")
    return file


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".jsonl", ".tsv"])
@pytest.mark.parametrize("command", ["generate", "score"])
def test_server_and_bundle_write_the_same_and_any_break_heals(
    run: Run,
    shared_server: RunningServer,
    tiny_bundles: dict[Cell, Path],
    prompts: Path,
    command: str,
    suffix: str,
) -> None:
    flags = (command, "--input", prompts, *(FLAGS if command == "generate" else ()))
    whole, other = prompts.with_name(f"whole{suffix}"), prompts.with_name(f"other{suffix}")
    bundle = ("--bundle", tiny_bundles["gru"])
    assert run(*flags, *bundle, "--output", whole) == 1  # some records failed
    assert run(*flags, "--target", shared_server.address, "--output", other) == 1
    written = whole.read_bytes()
    assert written == other.read_bytes()
    assert written.count(b"\n") == len(PROMPTS)
    other.unlink()
    assert (
        run(*flags, *bundle, "--output", other, "--resume") == 1
    )  # there is nothing to go on from
    assert other.read_bytes() == written
    for cut in (0, 1, len(written) // 3, len(written) // 2, len(written) - 1, len(written)):
        other.write_bytes(written[:cut])
        assert run(*flags, *bundle, "--output", other, "--resume") in (0, 1)
        assert other.read_bytes() == written


def test_record_k_is_the_text_of_the_seed_plus_k(
    run: Run, tiny_bundles: dict[Cell, Path], tmp_path: Path
) -> None:
    output = tmp_path / "texts.jsonl"
    flags = ("generate", "--bundle", tiny_bundles["gru"], "--prompt", "ab", *FLAGS)
    assert run(*flags, "--samples", 20, "--output", output) == 0
    records = [json.loads(line) for line in output.read_text("utf-8").splitlines()]
    assert [(each["index"], each["seed"]) for each in records] == [(k, 9 + k) for k in range(20)]
    with load(tiny_bundles["gru"]) as model:
        options = GenerateOptions(seed=9 + 13, max_new_symbols=40, stop=("d",))
        assert records[13]["text"] == model.generate("ab", options).text


def test_seed_that_was_chosen_goes_on(
    run: Run, tiny_bundles: dict[Cell, Path], tmp_path: Path
) -> None:
    output = tmp_path / "texts.tsv"
    flags = ("generate", "--bundle", tiny_bundles["gru"], "--max-new-symbols", 9)
    assert run(*flags, "--samples", 3, "--output", output) == 0
    assert run(*flags, "--samples", 6, "--output", output, "--resume") == 0
    seeds = [int(line.split("\t")[1]) for line in output.read_text("utf-8").splitlines()]
    assert [seed - seeds[0] for seed in seeds] == list(range(6))


def test_standard_input_and_output(
    run: Run, tiny_bundles: dict[Cell, Path], capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    stdin = b'"a"\n{"text": "b"}\n'
    flags = ("score", "--bundle", tiny_bundles["gru"], "--input", "-", "--input-format", "jsonl")
    assert run(*flags, "--output-format", "tsv", stdin=stdin) == 0
    output, errors = capfdbinary.readouterr()
    rows = [line.split(b"\t") for line in output.splitlines()]
    assert [row[:2] for row in rows] == [[b"0", b"1"], [b"1", b"1"]]
    assert b"2 records" in errors


@pytest.mark.parametrize("command", ["generate", "score"])
def test_errors_of_records_name_the_flags_of_settings(
    run: Run, tiny_bundles: dict[Cell, Path], tmp_path: Path, capfd: Captured, command: str
) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("a\nx\nfaxed\n", encoding="utf-8")
    flags = (command, "--bundle", tiny_bundles["gru"], "--input", texts)
    assert run(*flags) == 1
    records = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    errors = [each["error"] for each in records if "error" in each]
    assert len(errors) == 2
    assert all("set --unknown-symbols to skip or replace" in error for error in errors)


@pytest.mark.parametrize("command", ["generate", "score"])
def test_symbols_that_were_skipped_are_counted_over_all_records(
    run: Run, tiny_bundles: dict[Cell, Path], tmp_path: Path, capfd: Captured, command: str
) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("a\naxx\nfaxed\n", encoding="utf-8")
    flags = (command, "--bundle", tiny_bundles["gru"], "--input", texts)
    assert run(*flags, "--unknown-symbols", "skip") == 0
    assert capfd.readouterr().err.endswith(" a second, 3 symbols skipped\n")


@pytest.mark.parametrize("command", ["generate", "score"])
def test_input_that_cannot_be_read_is_all_that_is_told(
    run: Run, tiny_bundles: dict[Cell, Path], tmp_path: Path, capfd: Captured, command: str
) -> None:
    output = tmp_path / "out.jsonl"
    flags = ("--bundle", tiny_bundles["gru"], "--input", tmp_path / "none", "--output", output)
    assert run(command, *flags) == 2
    told = capfd.readouterr().err.splitlines()
    assert len(told) == 1
    assert "cannot be read" in told[0]
    assert not output.exists()


def test_wrong_settings_are_all_that_is_told(
    run: Run, shared_server: RunningServer, prompts: Path, capfd: Captured
) -> None:
    flags = ("--target", shared_server.address, "--input", prompts, "--model", "nobody")
    assert run("generate", *flags) == 2
    (told,) = capfd.readouterr().err.splitlines()
    assert "nobody" in told


def test_other_settings_or_input_do_not_go_on(
    run: Run, tiny_bundles: dict[Cell, Path], prompts: Path, capfd: Captured
) -> None:
    output = prompts.with_name("texts.jsonl")
    flags = ("--bundle", tiny_bundles["gru"], "--input", prompts, "--output", output)
    assert run("generate", *flags, *FLAGS) == 1
    before = output.read_bytes()
    assert run("generate", *flags, *FLAGS) == 2
    assert "--resume" in capfd.readouterr().err
    output.write_bytes(b"".join(before.splitlines(keepends=True)[:3]))
    assert run("generate", *flags, *FLAGS, "--temperature", "0.5", "--resume") == 2
    assert "record 2 of the output comes out otherwise" in capfd.readouterr().err
    output.write_bytes(before)
    prompts.write_text("a\n", encoding="utf-8")
    assert run("generate", *flags, *FLAGS, "--resume") == 2
    assert "the input has fewer texts" in capfd.readouterr().err
    assert output.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["score"], "text"),
        (["score", "--text", "a", "--input", "b"], "text"),
        (["generate", "--prompt", "a", "--input", "b"], "prompt"),
        (["generate", "--samples", "2", "--resume"], "resume"),
        (["generate", "--samples", "2", "--output-format", "text"], "--output-format"),
        (["generate", "--target", "elsewhere:1"], "target = 'elsewhere:1': is for a server"),
        (["score", "--text", "a", "--target", "127.0.0.1:50051"], "is for a server"),
        (["score", "--text", "a", "--tls"], "tls = 'True': is for a server"),
        (["generate", "--input", "/nowhere/at/all"], "input"),
        (["generate", "--samples", "2", "--output", "/nowhere/at/all"], "output"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    run: Run,
    tiny_bundles: dict[Cell, Path],
    arguments: list[str],
    word: str,
    capfd: Captured,
) -> None:
    assert run(*arguments, "--bundle", tiny_bundles["gru"]) == 2
    assert f"{word}" in capfd.readouterr().err


def test_how_to_compute_is_for_bundles_alone(run: Run, capfd: Captured) -> None:
    assert run("generate", "--workers", "2") == 2
    assert "workers = '2': is for a --bundle only; leave --workers out" in capfd.readouterr().err


def test_bundle_is_computed_as_asked(
    run: Run, tiny_bundles: dict[Cell, Path], prompts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, object]] = []

    def noting(folder: Path, **how: object) -> LocalModel:
        seen.append(how)
        return load(folder, **how)  # type: ignore[arg-type]

    monkeypatch.setattr("serving.local.model.load", noting)
    flags = ("score", "--bundle", tiny_bundles["gru"], "--input", prompts)
    assert run(*flags, "--output", prompts.with_name("one.tsv")) == 1
    how = ("--workers", "2", "--slots", "3")
    assert run(*flags, *how, "--output", prompts.with_name("other.tsv")) == 1
    assert seen[1] == {"device": "cpu", "kernels": "onnx", "workers": 2, "slots": 3}
    outputs = [prompts.with_name(f"{name}.tsv").read_bytes() for name in ("one", "other")]
    assert outputs[0] == outputs[1]


def test_command_that_failed_before_its_first_record_leaves_no_output(
    run: Run, tiny_bundles: dict[Cell, Path], prompts: Path, tmp_path: Path
) -> None:
    output = tmp_path / "texts.jsonl"
    command = ("generate", "--bundle", tiny_bundles["gru"], *FLAGS, "--output", output)
    assert run(*command, "--input", tmp_path / "missing.txt") == 2
    assert not output.exists()
    assert run(*command, "--input", prompts) == 1  # some of them have errors of their own
    assert len(output.read_bytes().splitlines()) == len(PROMPTS)


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_run_whose_disk_was_full_goes_on_when_there_is_room(
    run: Run, tiny_bundles: dict[Cell, Path], tmp_path: Path, capfd: Captured
) -> None:
    flags = ("generate", "--bundle", tiny_bundles["gru"], *FLAGS, "--samples", 100)
    whole, output = tmp_path / "whole.jsonl", tmp_path / "texts.jsonl"
    assert run(*flags, "--output", whole) == 0
    with files_of_at_most(whole.stat().st_size // 2):
        assert run(*flags, "--output", output) == 2
    told = capfd.readouterr().err
    assert f"output = {str(output)!r}: cannot be written: File too large; make room, then" in told
    assert output.stat().st_size == whole.stat().st_size // 2
    assert run(*flags, "--output", output, "--resume") == 0
    assert output.read_bytes() == whole.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), ("--samples", "3")], ids=["text", "records"])
def test_standard_output_that_is_full_is_told(
    tiny_bundles: dict[Cell, Path], more: tuple[str, ...]
) -> None:
    command = [sys.executable, "-m", "unroll", "generate", "--bundle", str(tiny_bundles["gru"])]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([*command, *more], stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 2
    *_, told = done.stderr.decode().splitlines()
    assert "output = '-': cannot be written: No space left on device; make room, then" in told


def test_output_that_another_command_writes_is_refused_and_stays(
    run: Run, tiny_bundles: dict[Cell, Path], prompts: Path, tmp_path: Path, capfd: Captured
) -> None:
    flags = ("score", "--bundle", tiny_bundles["gru"], "--input", prompts)
    output = tmp_path / "scores.jsonl"
    with output.open("xb") as others:
        assert hold(others.fileno(), output)
        assert run(*flags, "--output", output, "--resume") == 2
    assert "another command writes there now; wait until it has ended" in capfd.readouterr().err
    assert output.read_bytes() == b""
    assert run(*flags, "--output", output, "--resume") == 1  # some records fail
    assert output.read_bytes().count(b"\n") == len(PROMPTS)


@pytest.mark.parametrize("more", [(), ("--resume",)], ids=["anew", "resumed"])
@pytest.mark.parametrize("place", ["/dev/null", "/"])
def test_output_that_is_no_file_is_refused(
    run: Run,
    tiny_bundles: dict[Cell, Path],
    capfd: Captured,
    place: str,
    more: tuple[str, ...],
) -> None:
    flags = ("--bundle", tiny_bundles["gru"], "--samples", 3)
    assert run("generate", *flags, "--output", place, *more) == 2
    assert f"output = {place!r}: is not a file; name a file, or -" in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_run_goes_on_and_ends_as_if_nothing_had_been(
    run: Run, tiny_bundles: dict[Cell, Path], tmp_path: Path, number: signal.Signals
) -> None:
    whole, output = tmp_path / "whole.jsonl", tmp_path / "texts.jsonl"
    flags = [
        *("generate", "--bundle", str(tiny_bundles["gru"]), "--seed", "3"),
        *("--samples", "3000", "--max-new-symbols", "200"),
    ]
    command = [sys.executable, "-m", "unroll", *flags, "--output", str(output)]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        wait_for(lambda: output.exists() and output.stat().st_size > 0)
        process.send_signal(number)
        told = process.communicate()[1].decode()
    assert process.returncode == 128 + number
    written = output.read_bytes().count(b"\n")
    assert 0 < written < 3000
    pattern = r"interrupted: (\S+) records were written; the same command with --resume goes on"
    found = re.search(pattern, told)
    assert found is not None, told
    assert written - int(found[1].replace(",", "")) in (0, 1)  # one while it was being counted
    assert run(*flags, "--output", output, "--resume") == 0
    assert run(*flags, "--output", whole) == 0
    assert output.read_bytes() == whole.read_bytes()
