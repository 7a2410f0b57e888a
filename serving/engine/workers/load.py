"""What an engine has to do."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Load:
    """What an engine has to do.

    Attributes:
        queued: sequences without a slot that could run.
        stalled: sequences that wait for their readers.
        running: sequences in slots.
        slots: how many there are.
        workers: likewise.
    """

    queued: int
    stalled: int
    running: int
    slots: int
    workers: int
