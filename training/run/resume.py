"""Resuming a run: with the settings it was started with, and no other."""

from dataclasses import fields, replace

from training.settings import TrainingSettings
from unroll.errors import SettingsError

OF_THE_PLACE = {"resume", "name", "runs_dir"}


def settings_to_resume(given: TrainingSettings, stored: TrainingSettings) -> TrainingSettings:
    """Return the stored settings, unless others were asked for.

    Args:
        given: from the command line; a default counts as not asked for, and so does auto.
        stored: from the checkpoint.

    Raises:
        SettingsError: a setting was given another value than the run was started with.
    """
    for field in fields(TrainingSettings):
        asked, begun = getattr(given, field.name), getattr(stored, field.name)
        if field.name not in OF_THE_PLACE and asked not in {field.default, begun, "auto"}:
            raise SettingsError(
                f"{field.name} = {asked!r}: the run {given.run_name} was started with {begun!r} "
                "and resumes with that; leave the setting out, or start a new run"
            )
    return replace(stored, resume=True, name=given.run_name, runs_dir=given.runs_dir)
