"""Resuming a run: with the settings it was started with, but for what does not change it."""

from dataclasses import fields, replace

from training.settings import TrainingSettings
from unroll.errors import SettingsError

OF_THE_PLACE = ("resume", "name", "runs_dir")
# A text is known by its sha256, wherever it lies; threads and device change the order of sums only.
MAY_CHANGE = ("corpus", "threads", "device", "tensorboard")


def settings_to_resume(
    given: TrainingSettings, stored: TrainingSettings, *, has_cuda: bool
) -> TrainingSettings:
    """Return the stored settings, with what of OF_THE_PLACE and MAY_CHANGE was asked for.

    A run that was started on CUDA goes on on the CPU, in float32, where there is no CUDA device.

    Args:
        given: from the command line; a default counts as not asked for, and so does auto.
        stored: from the checkpoint.
        has_cuda: whether this machine has a CUDA device.

    Raises:
        SettingsError: another setting was given another value than the run was started with.
    """
    changes = {name: getattr(given, name) for name in OF_THE_PLACE}
    for field in fields(TrainingSettings):
        asked, begun = getattr(given, field.name), getattr(stored, field.name)
        if field.name in OF_THE_PLACE or asked in {field.default, begun, "auto"}:
            continue
        if field.name not in MAY_CHANGE:
            raise SettingsError(
                f"{field.name} = {asked!r}: the run {given.run_name} was started with {begun!r} "
                f"and resumes with that (only {', '.join(MAY_CHANGE)} may change); leave the "
                "setting out, or start a new run"
            )
        changes[field.name] = asked
    if stored.device == "cuda" and "device" not in changes and not has_cuda:
        changes |= {"device": "cpu", "precision": "fp32"}
    return replace(stored, **changes | {"name": given.run_name})
