"""Bearer tokens: who may call, in a file that may change while the server runs.

The file has one caller a line, `NAME:SHA256`: a name and the sha256 of the caller's token, in hex.
Empty lines and lines that begin with # mean nothing. One name may have several tokens, so that a
token can be replaced without a gap. `unroll token --name NAME --file FILE`
makes a token, appends its line and prints the token, which is written down nowhere else.
"""

import hashlib
import hmac
import logging
import os
import re
import secrets
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cyclopts import Parameter

from serving.access.watched import Watched
from unroll.cli import run
from unroll.errors import SettingsError
from unroll.files import read_settings

TOKEN_BYTES = 32
TOKEN_LENGTH_AT_MOST = 4096
_LINE = re.compile(r"([\w.@-]{1,64}):([0-9a-f]{64})", re.ASCII)
NAME = re.compile(r"[\w.@-]{1,64}", re.ASCII)

log = logging.getLogger(__name__)


class Tokens:
    """Tells whose a token is, by a file that is read again when it changes.

    If the file is missing, all callers are refused. If a line is wrong, the old tokens stay in
    force: a slip of the pen shall not lock everybody out. Either is logged once.

    Args:
        path: of the file.

    Raises:
        SettingsError: the file cannot be read or understood at the start.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._watched = Watched((path,), self._read)
        self._digests: list[tuple[str, bytes]] = []
        self._trouble = ""  # that the log tells already
        try:
            self._digests, _ = self._watched.current()
        except OSError as error:
            raise SettingsError(
                f"tokens = {str(path)!r}: {error.strerror}; make one with `unroll token`"
            ) from error

    def name_of(self, token: bytes) -> str | None:
        """Return the name of a token's caller; None if nobody has that token.

        The time it takes does not depend on which token it is, nor on how much of it is right.
        """
        if len(token) > TOKEN_LENGTH_AT_MOST:
            return None
        digest = hashlib.sha256(token).digest()
        matching = [name for name, known in self._known() if hmac.compare_digest(known, digest)]
        return matching[0] if matching else None

    def _known(self) -> list[tuple[str, bytes]]:
        trouble = ""
        try:
            self._digests, is_new = self._watched.current()
        except OSError as error:
            trouble = f"tokens = {self._path}: {error.strerror}; all callers are refused"
            self._digests = []
        except SettingsError as error:
            trouble = f"{error}; the old tokens stay in force"
        else:
            if is_new:
                log.debug("%d tokens read from %s", len(self._digests), self._path)
        if trouble and trouble != self._trouble:
            log.error("%s", trouble)
        self._trouble = trouble
        return self._digests

    def _read(self) -> list[tuple[str, bytes]]:
        try:
            lines = read_settings(self._path).decode().splitlines()
        except UnicodeDecodeError as error:
            raise SettingsError(
                f"tokens = {str(self._path)!r}: is not UTF-8; make one with `unroll token`"
            ) from error
        found = []
        for number, line in enumerate(map(str.strip, lines), start=1):
            if not line or line.startswith("#"):
                continue
            match = _LINE.fullmatch(line)
            if match is None:  # the line is not shown: it might hold a token by mistake
                raise SettingsError(
                    f"tokens = {str(self._path)!r}: line {number} must be NAME:SHA256, the name of "
                    "1 to 64 letters, digits or . @ _ - and the sha256 as 64 lower-case hex "
                    "digits; "
                    "make one with `unroll token`"
                )
            found.append((match[1], bytes.fromhex(match[2])))
        return found


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class NewToken:
    """Make a bearer token, append its line to a file and print the token."""

    name: str
    """The caller's name: 1 to 64 letters, digits or . @ _ -. Sessions and capsules belong to it."""

    file: Path
    """File of tokens, to which a line is added. A new file can be read by its owner only."""


def issue(asked: NewToken) -> str:
    """Make a token, append its line to the file and return it.

    Raises:
        SettingsError: the name cannot be used, or the file cannot be written.
    """
    if not NAME.fullmatch(asked.name):
        raise SettingsError(
            f"name = {asked.name!r}: must be 1 to 64 letters, digits or . @ _ -; change --name"
        )
    token = secrets.token_urlsafe(TOKEN_BYTES)
    line = f"{asked.name}:{hashlib.sha256(token.encode()).hexdigest()}\n"
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
        with os.fdopen(os.open(asked.file, flags, 0o600), "rb+") as file:
            has_open_line = file.seek(0, os.SEEK_END) and _last_byte(file) != b"\n"
            file.write((b"\n" if has_open_line else b"") + line.encode())
    except OSError as error:
        raise SettingsError(
            f"file = {str(asked.file)!r}: cannot be written: {error.strerror}; change --file"
        ) from error
    return token


def _last_byte(file: BinaryIO) -> bytes:
    file.seek(-1, os.SEEK_END)
    return file.read(1)


def main(tokens: Sequence[str] | None = None) -> None:
    """Parse the command line and make a token."""
    run(NewToken, _print, name="unroll token", tokens=tokens)


def _print(asked: NewToken) -> None:
    sys.stdout.write(issue(asked) + "\n")
