"""Many records by a command: from a file, or samples of a prompt, to a file that can go on."""

import secrets
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import IO, TypeVar

from rich.console import Console
from rich.progress import Progress

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
from unroll.errors import SettingsError
from unroll.results import Answer, Generation, Score
from unroll.terms import SEED_LIMIT

SHOW_SECONDS = 0.5  # between two looks at the progress
CHUNK = 2**20
FAILED = 1  # status of a command some of whose records failed
R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class Start:
    """Where a run begins.

    Attributes:
        records: that the output holds already.
        last: the last of them, with its line's end; empty if there is none.
    """

    records: int = 0
    last: bytes = b""

    @property
    def first(self) -> int:
        """The first record to make: the last one again, to see that it comes out the same."""
        return max(self.records - 1, 0)


def generate_records(model: Face, settings: GenerateSettings) -> None:
    """Continue each prompt `samples` times; record k has the seed `seed` + k.

    Raises:
        SettingsError: the output cannot be written, or what it holds is of another run.
        SystemExit: some records failed, each with its own error.
    """
    form = _output_format(settings)
    _check_input(settings)
    with _output(settings) as (file, start):
        seed = settings.seed
        if seed is None:
            seed = secrets.randbelow(SEED_LIMIT)
            if start.records:
                seed = (seed_of(form, start.last) - start.first) % SEED_LIMIT
        prompts = _repeated(_texts(settings, "prompt", settings.prompt), settings.samples)
        options = replace(settings.options, seed=(seed + start.first) % SEED_LIMIT)

        def write(index: int, answer: Answer[Generation]) -> bytes:
            return write_generation(form, index, (seed + index) % SEED_LIMIT, answer)

        total = _total(settings)
        with closing(
            model.generate_many(
                islice(prompts, start.first, None),
                options,
                in_order=True,
                timeout=settings.timeout or None,
            )
        ) as answers:
            told = _after_telling(f"seed {seed}\n", answers)
            _write_all(file, start, told, write, total and total * settings.samples)


def score_records(model: Face, settings: ScoreSettings) -> None:
    """Score each text; raises as generate_records does."""
    form = _output_format(settings)
    _check_input(settings)
    with _output(settings) as (file, start):

        def write(index: int, answer: Answer[Score]) -> bytes:
            return write_score(form, index, answer)

        with closing(
            model.score_many(
                islice(_texts(settings, "text", settings.text or ""), start.first, None),
                settings.options,
                in_order=True,
                timeout=settings.timeout or None,
            )
        ) as answers:
            _write_all(file, start, answers, write, _total(settings))


def _after_telling(words: str, answers: Iterable[Answer[R]]) -> Iterator[Answer[R]]:
    """Tell something once the first answer is there, as nothing can be wrong with settings then."""
    for place, answer in enumerate(answers):
        if place == 0:
            sys.stderr.write(words)
        yield answer


def _write_all(
    file: IO[bytes],
    start: Start,
    answers: Iterable[Answer[R]],
    write: Callable[[int, Answer[R]], bytes],
    total: int | None,
) -> None:
    """Write the records as they come; the first is the last that is there, and must be the same."""
    began = shown = time.monotonic()
    index, failed = start.first - 1, 0
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task("records", total=total, completed=start.records)
        for answer in answers:
            index = start.first + answer.index
            line = write(index, answer)
            if index < start.records:
                _check_last(line, start)
                continue
            file.write(line)
            file.flush()  # the next may be long in coming
            failed += answer.error is not None
            now = time.monotonic()
            if now > shown + SHOW_SECONDS:
                progress.update(task, completed=index + 1)
                shown = now
    if index + 1 < start.records:
        raise SettingsError(
            f"resume: the output holds {start.records} records, the input fewer; it is of another "
            "run"
        )
    made, seconds = index + 1 - start.records, time.monotonic() - began
    sys.stderr.write(f"{made:,} records, {made / seconds:,.0f} a second\n")
    if failed:
        sys.stderr.write(f"{failed:,} of them failed; their `error` says why\n")
        raise SystemExit(FAILED)


def _check_last(line: bytes, start: Start) -> None:
    if line != start.last:
        raise SettingsError(
            f"resume: record {start.first} of the output comes out otherwise now; it was made from "
            "another input, by another model or with other settings"
        )


@contextmanager
def _output(settings: BatchSettings) -> Iterator[tuple[IO[bytes], Start]]:
    """Open the output behind the records that it holds.

    Raises:
        SettingsError: it cannot be written, or holds records and nobody said to resume.
    """
    path = settings.output or STANDARD
    if path == STANDARD:
        yield sys.stdout.buffer, Start()
        sys.stdout.buffer.flush()
        return
    try:
        file = path.open("r+b" if settings.resume and path.exists() else "x+b")
    except FileExistsError as error:
        raise SettingsError(
            f"output = {str(path)!r}: is there already; --resume goes on where it ends"
        ) from error
    except OSError as error:
        raise SettingsError(
            f"output = {str(path)!r}: cannot be written: {error.strerror}"
        ) from error
    with file:
        start = _start(file) if settings.resume else Start()
        try:
            yield file, start
        except BaseException:
            file.flush()
            if not path.stat().st_size:  # nothing came of it: the corrected command begins anew
                path.unlink()
            raise


def _start(file: IO[bytes]) -> Start:
    """Count a file's whole lines, cut off what is left of another, and stand behind them."""
    records, end, last = 0, 0, b""
    for line in file:
        if line.endswith(b"\n"):
            records, end, last = records + 1, end + len(line), line
    file.seek(end)
    file.truncate()
    return Start(records=records, last=last)


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
        raise SettingsError(f"input = {str(path)!r}: cannot be read: {error.strerror}") from error


def _repeated(texts: Iterable[str], times: int) -> Iterator[str]:
    return (text for text in texts for _ in range(times))
