"""Records of what was measured: a JSON file each, with machine and settings."""

import json
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any

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


def settings_of(settings: Any) -> dict[str, Any]:
    """Return settings, a dataclass, as a record has them: without the path of the record."""
    return asdict(settings) | {"json": None}


def write(record: Any, path: Path) -> None:
    """Write a record, a dataclass."""
    text = json.dumps(asdict(record), indent=1, default=_plain)
    path.write_text(text + "\n", encoding="utf-8")


def _plain(value: object) -> object:
    return value.value if isinstance(value, Enum) else str(value)
