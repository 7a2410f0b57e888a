"""Records of the benchmarks: a JSON file each, with machine and settings; written and read."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

import dacite

from unroll.errors import SettingsError

FORMAT_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Record:
    """What every record has.

    Attributes:
        format_version: of the file.
        machine: processor and versions.
        settings: of the run.
    """

    format_version: int = FORMAT_VERSION
    machine: dict[str, str]
    settings: dict[str, Any]


R = TypeVar("R", bound=Record)


def settings_of(settings: Any) -> dict[str, Any]:
    """Return settings, a dataclass, as a record has them: without the path of the record."""
    return asdict(settings) | {"json": None}


def write(record: Any, path: Path) -> None:
    """Write a record, a dataclass."""
    text = json.dumps(asdict(record), indent=1, default=_plain)
    path.write_text(text + "\n", encoding="utf-8")


def _plain(value: object) -> object:
    return value.value if isinstance(value, Enum) else str(value)


def read(kind: type[R], path: Path) -> R:
    """Read a record of one kind.

    Raises:
        SettingsError: it is no such record, or one of another version.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        found = values["format_version"]
        if found == FORMAT_VERSION:
            return dacite.from_dict(kind, values, dacite.Config(strict=True))
    except (OSError, ValueError, TypeError, KeyError, dacite.DaciteError) as error:
        why = f"{type(error).__name__}: {error}"
        raise SettingsError(f"{path}: is no record of a benchmark: {why}") from error
    raise SettingsError(
        f"{path}: format version {found!r}, this release reads {FORMAT_VERSION}; measure again"
    )


def read_all(kind: type[R], paths: Iterable[Path], settings: Iterable[str]) -> list[R]:
    """Read records that must be of one machine and agree in some settings.

    Raises:
        SettingsError: one is no record, or they differ.
    """
    names, first = list(settings), None
    records = []
    for path in sorted(paths):
        record = read(kind, path)
        found = {**record.machine, **{name: record.settings.get(name) for name in names}}
        first = first or (path.name, found)
        if found != first[1]:
            raise SettingsError(
                f"{path}: measured on {found}, {first[0]} on {first[1]}; measure all of them on "
                "one machine with the same settings"
            )
        records.append(record)
    return records
