"""Captures of CUDA graphs, and what may go on beside them.

While one thread captures, CUDA forbids every other thread of the process to allocate, to free and
to copy: the call fails, and the capture with it.

    using      loop runs and copies: side by side, but for a capture
    opening    graph sessions and buffers come or go: one after another; others' loop runs go on
    capturing  one capture: alone

A capture waits for the loop runs that have begun, and those that come meanwhile wait for it. They
all come before the next capture.
"""

import threading
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Captures:
    """Who may use the device at what time. Its methods must not be nested."""

    def __init__(self) -> None:
        self._turn = threading.Lock()  # of whoever opens or captures
        self._changed = threading.Condition()  # guards the four below
        self._using = 0
        self._waiting = 0
        self._is_wanted = False
        self._made = 0
        self._dropped: deque[Any] = deque()  # what nobody has any more

    @contextmanager
    def using(self) -> Iterator[None]:
        """Make loop runs or copies; wait while a capture goes on, or until the next is made."""
        with self._changed:
            if self._is_wanted:
                self._waiting += 1
                made = self._made
                self._changed.wait_for(lambda: self._made > made)  # which counted this one in
            else:
                self._using += 1
        try:
            yield
        finally:
            with self._changed:
                self._using -= 1
                self._changed.notify_all()
        if self._dropped and self._turn.acquire(blocking=False):
            try:
                self._dropped.clear()
            finally:
                self._turn.release()

    @contextmanager
    def opening(self) -> Iterator[None]:
        """Open graph sessions or allocate."""
        with self._turn:
            self._dropped.clear()
            yield

    @contextmanager
    def capturing(self) -> Iterator[None]:
        """Make the first run of a graph."""
        with self._turn:
            with self._changed:
                self._is_wanted = True
                self._changed.wait_for(lambda: not self._using)
            try:
                yield
            finally:
                with self._changed:
                    self._is_wanted = False
                    self._made += 1
                    self._using += self._waiting
                    self._waiting = 0
                    self._changed.notify_all()

    def free_apart(self, owner: object, held: object) -> None:
        """Let what holds the device's memory be freed at a time when nothing is captured.

        The last owner may let go of it on any thread and at any time, the garbage collector too.

        Args:
            owner: whose end lets go of it.
            held: what frees memory when it ends; anything but the owner, and without it.
        """
        weakref.finalize(owner, self._dropped.append, held).atexit = False


CAPTURES = Captures()
"""The process's; CUDA's rule is about all its threads."""
