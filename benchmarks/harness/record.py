"""The files of the benchmarks' records."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

import dacite

from unroll.errors import SettingsError
from unroll.record import FORMAT_VERSION, Record, write

R = TypeVar("R", bound=Record)


def save(record: Record, folder: Path | None, name: str) -> None:
    """Write a record into a folder, if there is to be one."""
    if folder is not None:
        folder.mkdir(exist_ok=True)
        write(record, folder / name)


def described(machine: dict[str, str], *left_out: str) -> str:
    """Tell the machine of a record: the processor, then the packages by name and version."""
    shown = {name: of for name, of in machine.items() if name not in left_out}
    return ", ".join(of if name == "processor" else f"{name} {of}" for name, of in shown.items())


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
        found.pop("core", None)  # any of the machine's
        first = first or (path.name, found)
        if found != first[1]:
            raise SettingsError(
                f"{path}: measured on {found}, {first[0]} on {first[1]}; measure all of them on "
                "one machine with the same settings"
            )
        records.append(record)
    return records
