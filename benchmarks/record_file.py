"""A record of a benchmark as a JSON file."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import dacite

from unroll.errors import SettingsError

R = TypeVar("R")


def write_record(record: Any, path: Path) -> None:
    """Write a record, a dataclass."""
    path.write_text(json.dumps(asdict(record), indent=1) + "\n", encoding="utf-8")


def read_record(kind: type[R], format_version: int, path: Path) -> R:
    """Read a record of one kind, whose `format_version` must be the given one.

    Raises:
        SettingsError: it is no such record, or one of another version.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        found = values["format_version"]
        if found == format_version:
            return dacite.from_dict(kind, values, dacite.Config(strict=True))
    except (OSError, ValueError, TypeError, KeyError, dacite.DaciteError) as error:
        raise SettingsError(f"{path}: is no record of a benchmark: {error!r}") from error
    raise SettingsError(
        f"{path}: format version {found!r}, this release reads {format_version}; measure again"
    )
