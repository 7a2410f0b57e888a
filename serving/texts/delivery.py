"""The hop from the engines' threads to the event loop."""

import asyncio
import logging
from collections.abc import Callable

from serving.engine.sequences.sequence import Delivery
from serving.engine.workers.outbox import call_listeners

log = logging.getLogger(__name__)


class LoopDelivery:
    """Takes what engines deliver to the readers on an event loop, one hop for all its chunks.

    Args:
        loop: on which the readers wait.
        on_failure: called on the loop when an engine has failed; it should tell balancers.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, on_failure: Callable[[], object]) -> None:
        self._loop = loop
        self._on_failure = on_failure

    def __call__(self, delivery: Delivery) -> None:
        """Hand over chunks; called on any thread."""
        try:
            self._loop.call_soon_threadsafe(call_listeners, delivery)
        except RuntimeError:  # the loop is closed, and so are all readers
            log.debug("%d chunks came after the end", len(delivery))

    def tell_failure(self) -> None:
        """Report that an engine has failed; called on any thread."""
        try:
            self._loop.call_soon_threadsafe(self._on_failure)
        except RuntimeError:
            log.debug("an engine failed after the end")
