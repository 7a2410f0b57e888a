"""How far a reading has come: a bar on a terminal, plain lines elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress

from training.evaluate.reading import Advance
from training.log.progress import SECONDS_BETWEEN_LINES, duration, say


@contextmanager
def reading(console: Console, title: str, symbols: int) -> Iterator[Advance]:
    """Show the progress of the block, which tells how many symbols more it has read.

    Args:
        console: where to show it.
        title: what is being done.
        symbols: how many it will read.
    """
    begun = said = time.monotonic()
    done = 0

    def advance(more: int) -> None:
        nonlocal done, said
        done += more
        bar.advance(task, more)
        if not console.is_terminal and time.monotonic() - said >= SECONDS_BETWEEN_LINES:
            said = time.monotonic()
            say(console, f"{title}: {done / symbols:.0%}")

    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=symbols)
        yield advance
    say(console, f"{title}: {symbols:,} symbols in {duration(time.monotonic() - begun)}")
