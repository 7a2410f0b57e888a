"""One check of what every benchmark's settings can get wrong."""

from pathlib import Path
from typing import Any

from unroll.errors import SettingsError
from unroll.ranges import ranges_of, wrong_setting


def check_settings(settings: Any) -> None:
    """Check what would end the measuring halfway.

    Raises:
        SettingsError: a number is out of its range, a tuple is empty, a name in `model` is not
            CELL-HIDDENxLAYERS, or the folder of `json` is not there.
    """
    ranges = ranges_of(type(settings))
    for name, value in vars(settings).items():
        if value == ():
            raise SettingsError(f"{name} = (): name at least one with --{name}")
        for one in value if isinstance(value, tuple) else (value,):
            if name in ranges and one is not None and one not in ranges[name]:
                raise wrong_setting(name, one, ranges[name])
            if name == "model" and isinstance(value, tuple):
                from benchmarks.harness.models import model_settings  # torch; a load does without

                model_settings(one, 2)
            if isinstance(one, Path) and name == "json" and not one.parent.is_dir():
                raise wrong_setting(name, str(one), "in a folder that exists")
