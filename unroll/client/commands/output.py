"""Where the records of a command go: standard output, or a file that can go on."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from unroll.client.commands.records import STANDARD
from unroll.client.commands.settings import BatchSettings
from unroll.errors import SettingsError, counted
from unroll.files import hold
from unroll.terms import UnknownSymbols

GO_ON = "the same command with --resume goes on where it ends"


@dataclass(kw_only=True)
class Output:
    """An output and the records that it holds.

    Attributes:
        path: where it is.
        file: to which more are added, each at once; unbuffered, or standard output's buffer.
        records: that were there at the start.
        last: the last of them, with its line's end; empty if there is none.
        made: records that were added.
    """

    path: Path
    file: IO[bytes]
    records: int = 0
    last: bytes = b""
    made: int = 0

    @property
    def first(self) -> int:
        """The first record to make: the last one again, to see that it comes out the same."""
        return max(self.records - 1, 0)

    def add(self, line: bytes) -> None:
        """Write a record; raises as `writing` does."""
        with writing(self.path):
            left = memoryview(line)
            while left:
                left = left[self.file.write(left) :]
            self.file.flush()  # the next may be long in coming
        self.made += 1

    def check_last(self, line: bytes) -> None:
        """Check the last record that was there against what it comes out as now.

        Raises:
            SettingsError: they differ.
        """
        if line != self.last:
            raise SettingsError(
                f"resume: record {self.first} of the output comes out otherwise now; it was made "
                "from another input, by another model or with other settings; name another output"
            )


@contextmanager
def opened(settings: BatchSettings) -> Iterator[Output]:
    """Open the output behind the records that it holds; if interrupted, tell how to go on.

    Raises:
        SettingsError: it cannot be written, or holds records and nobody said to resume.
    """
    path = settings.output or STANDARD
    with _standard() if path == STANDARD else _file(path, settings.resume) as output:
        try:
            yield output
        except KeyboardInterrupt:
            advice = "" if path == STANDARD else f"; {GO_ON}"
            were = "was" if output.made == 1 else "were"
            told = f"{counted(output.made, 'record')} {were} written"
            sys.stderr.write(f"interrupted: {told}{advice}\n")
            raise


@contextmanager
def _standard() -> Iterator[Output]:
    yield Output(path=STANDARD, file=sys.stdout.buffer)


@contextmanager
def _file(path: Path, resume: bool) -> Iterator[Output]:
    if path.exists() and not path.is_file():  # /dev/stdout, a pipe, a folder
        raise SettingsError(
            f"output = {str(path)!r}: is not a file; name a file, or - for standard output"
        )
    try:
        file = path.open("r+b" if resume and path.exists() else "x+b", buffering=0)
    except FileExistsError as error:
        raise SettingsError(
            f"output = {str(path)!r}: exists already; --resume continues where it ends, or name "
            "another file"
        ) from error
    except OSError as error:
        raise SettingsError(
            f"output = {str(path)!r}: cannot be written: {error.strerror}; change --output"
        ) from error
    with file:
        if not hold(file.fileno(), path):
            raise SettingsError(
                f"output = {str(path)!r}: another command writes there now; wait until it has "
                "ended, or name another file"
            )
        records, end, last = _records(path) if resume else (0, 0, b"")
        file.seek(end)
        file.truncate()  # what is left of another
        try:
            yield Output(path=path, file=file, records=records, last=last)
        except BaseException:
            if not path.stat().st_size:  # nothing came of it: the corrected command begins anew
                path.unlink()
            raise


def _records(path: Path) -> tuple[int, int, bytes]:
    """Count a file's whole lines, and their bytes; return the last, too."""
    records, end, last = 0, 0, b""
    with path.open("rb") as lines:
        for line in lines:
            if line.endswith(b"\n"):
                records, end, last = records + 1, end + len(line), line
    return records, end, last


@contextmanager
def writing(path: Path = STANDARD) -> Iterator[None]:
    """Tell why what the block writes cannot be written.

    Raises:
        SettingsError: it cannot.
        BrokenPipeError: whoever reads has seen enough.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        if path == STANDARD:
            give_up_standard_output()
        then = "begin anew" if path == STANDARD else GO_ON
        raise SettingsError(
            f"output = {str(path)!r}: cannot be written: {error.strerror}; make room, then {then}"
        ) from error


def passed_over(settings: BatchSettings, symbols: int) -> str:
    """Say how many symbols outside the vocabulary were skipped or replaced; empty for none."""
    done = "skipped" if settings.unknown_symbols is UnknownSymbols.SKIP else "replaced"
    return f"{counted(symbols, 'symbol')} {done}" if symbols else ""


def give_up_standard_output() -> None:
    """Let go of what is not yet written, which Python would try to write when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
