"""Presets: named TOML files of settings, beside this module."""

from pathlib import Path

from serving.errors import SettingsError, nearest

FOLDER = Path(__file__).parent / "presets"


def preset_path(name: str) -> Path:
    """Find the TOML file of a preset.

    Raises:
        SettingsError: there is no such preset; the known ones are named.
    """
    known = sorted(path.stem for path in FOLDER.glob("*.toml"))
    if name not in known:
        raise SettingsError(
            f"--preset {name}: no such preset; {nearest(name, known)} (all: {', '.join(known)})"
        )
    return FOLDER / f"{name}.toml"
