"""Presets: named TOML files of settings, beside this module.

NAME.toml is the preset, NAME.CELL.toml what is different with another cell than the preset's own.
"""

from pathlib import Path
from typing import Any

from training.settings import Cell, TrainingSettings
from unroll.cli import Given, read_toml
from unroll.errors import SettingsError, nearest

FOLDER = Path(__file__).parent / "presets"


def preset_files(name: str, given: Given) -> list[Path]:
    """Find the TOML files of a preset, the first one winning.

    Args:
        name: of the preset.
        given: says which cell was asked for, if any.

    Raises:
        SettingsError: there is no such preset; the known ones are named.
    """
    known = sorted(path.stem for path in FOLDER.glob("*.toml") if "." not in path.stem)
    if name not in known:
        names, advice = ", ".join(known), nearest(name, known)
        all_names = "" if names in advice else f" (all: {names})"
        raise SettingsError(f"--preset {name}: no such preset; {advice}{all_names}")
    files = FOLDER / f"{name}.{given('cell')}.toml", FOLDER / f"{name}.toml"
    return [file for file in files if file.is_file()]


def preset_settings(name: str, cell: Cell | None = None) -> TrainingSettings:
    """Return what `--preset NAME`, with `--cell CELL` if one is given, stands for.

    Raises:
        SettingsError: there is no such preset; the known ones are named.
    """
    given = {} if cell is None else {"cell": cell}
    values: dict[str, Any] = {}
    for file in reversed(preset_files(name, given.get)):
        values |= read_toml(file, TrainingSettings)
    return TrainingSettings(**values | given)
