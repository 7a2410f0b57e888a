"""Many records by a command: from a file, or samples of a prompt, to a file that can go on."""

import secrets
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import IO, TypeVar

from rich.console import Console
from rich.progress import Progress

from unroll.cli import with_flags
from unroll.client.commands.output import Output, opened, passed_over
from unroll.client.commands.records import (
    STANDARD,
    RecordFormat,
    input_format,
    output_format,
    read_texts,
    seed_of,
    write_generation,
    write_score,
)
from unroll.client.commands.settings import BatchSettings, GenerateSettings, ScoreSettings
from unroll.client.faces.face import Face
from unroll.errors import SettingsError, UnrollError, counted
from unroll.results import Answer, Generation, Score, Usage
from unroll.terms import SEED_LIMIT

SHOW_SECONDS = 0.5  # between two looks at the progress
CHUNK = 2**20
FAILED = 1  # status of a command some of whose records failed
R = TypeVar("R", Generation, Score)


def generate_records(model: Face, settings: GenerateSettings) -> None:
    """Continue each prompt `samples` times; record k has the seed `seed` + k.

    Raises:
        SettingsError: the output cannot be written, or what it holds is of another run.
        SystemExit: some records failed, each with its own error.
    """
    form = _output_format(settings)
    _check_input(settings)
    with opened(settings) as output:
        seed = settings.seed
        if seed is None:
            seed = secrets.randbelow(SEED_LIMIT)
            if output.records:
                seed = (seed_of(form, output.last) - output.first) % SEED_LIMIT
        prompts = _repeated(_texts(settings, "prompt", settings.prompt), settings.samples)
        options = replace(settings.options, seed=(seed + output.first) % SEED_LIMIT)

        def write(index: int, answer: Answer[Generation]) -> bytes:
            return write_generation(form, index, (seed + index) % SEED_LIMIT, answer)

        total = _total(settings)
        with closing(
            model.generate_many(
                islice(prompts, output.first, None),
                options,
                in_order=True,
                timeout=settings.timeout or None,
            )
        ) as answers:
            told = _after_telling(f"seed {seed}\n", answers)
            _write_all(settings, output, told, write, total and total * settings.samples)


def score_records(model: Face, settings: ScoreSettings) -> None:
    """Score each text; raises as generate_records does."""
    form = _output_format(settings)
    _check_input(settings)
    with opened(settings) as output:

        def write(index: int, answer: Answer[Score]) -> bytes:
            return write_score(form, index, answer)

        with closing(
            model.score_many(
                islice(_texts(settings, "text", settings.text or ""), output.first, None),
                settings.options,
                in_order=True,
                timeout=settings.timeout or None,
            )
        ) as answers:
            _write_all(settings, output, answers, write, _total(settings))


def _after_telling(words: str, answers: Iterable[Answer[R]]) -> Iterator[Answer[R]]:
    """Tell something once the first answer is there, as nothing can be wrong with settings then."""
    for place, answer in enumerate(answers):
        if place == 0:
            sys.stderr.write(words)
        yield answer


def _write_all(
    settings: BatchSettings,
    output: Output,
    answers: Iterable[Answer[R]],
    write: Callable[[int, Answer[R]], bytes],
    total: int | None,
) -> None:
    """Write the records as they come; the first is the last that is there, and must be the same."""
    began = shown = time.monotonic()
    index, failed, unknown = output.first - 1, 0, 0
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task("records", total=total, completed=output.records)
        for answer in answers:
            index = output.first + answer.index
            line = write(index, _with_flags(answer, settings))
            if index < output.records:
                output.check_last(line)
                continue
            output.add(line)
            failed += answer.error is not None
            unknown += 0 if answer.value is None else _usage(answer.value).unknown_symbols
            now = time.monotonic()
            if now > shown + SHOW_SECONDS:
                progress.update(task, completed=index + 1)
                shown = now
    if index + 1 < output.records:
        raise SettingsError(
            f"resume: the output has {output.records} records, and the input has fewer texts; name "
            "the output of this input"
        )
    seconds = time.monotonic() - began
    rate = f"{output.made / seconds:,.0f} a second"
    facts = counted(output.made, "record"), rate, passed_over(settings, unknown)
    sys.stderr.write(", ".join(filter(None, facts)) + "\n")
    if failed:
        sys.stderr.write(f"{failed:,} of them failed; the `error` of such a record says why\n")
        raise SystemExit(FAILED)


def _usage(result: Generation | Score) -> Usage:
    return result.usage if isinstance(result, Score) else result.completion.usage


def _with_flags(answer: Answer[R], settings: BatchSettings) -> Answer[R]:
    """Return an answer whose error names settings by their flags."""
    if answer.error is None:
        return answer
    return replace(answer, error=UnrollError(with_flags(str(answer.error), type(settings))))


def _output_format(settings: BatchSettings) -> RecordFormat:
    return output_format(settings.output or STANDARD, settings.output_format)


def _texts(settings: BatchSettings, field: str, given: str) -> Iterator[str]:
    """Yield the texts of the input; the one that was given, without an input."""
    if settings.input is None:
        yield given
        return
    form = input_format(settings.input, settings.input_format)
    with ExitStack() as stack:
        lines: IO[bytes] = sys.stdin.buffer
        if settings.input != STANDARD:
            lines = stack.enter_context(_opened(settings.input))
        yield from read_texts(lines, form, field)


def _total(settings: BatchSettings) -> int | None:
    """Count the texts of the input; None if only reading it can tell."""
    if settings.input is None:
        return 1
    if settings.input == STANDARD or not settings.input.is_file():
        return None
    with _opened(settings.input) as file:
        chunks = iter(lambda: file.read(CHUNK), b"")
        return sum(chunk.count(b"\n") for chunk in chunks)


def _check_input(settings: BatchSettings) -> None:
    """Check that the input can be read, before anything is said or written."""
    path = settings.input
    if path is not None and path != STANDARD and not path.is_fifo():  # a pipe can be opened once
        _opened(path).close()


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        raise SettingsError(
            f"input = {str(path)!r}: cannot be read: {error.strerror}; change --input"
        ) from error


def _repeated(texts: Iterable[str], times: int) -> Iterator[str]:
    return (text for text in texts for _ in range(times))
