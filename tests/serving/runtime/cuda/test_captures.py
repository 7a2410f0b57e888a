"""Captures: alone, one at a time, and with loop runs in between."""

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from serving.runtime.cuda.captures import Captures
from tests.serving.running import PATIENCE, wait_for

Way = Callable[[], AbstractContextManager[None]]


class Guest:
    """A thread that stays in one of the contexts until it is told to go."""

    def __init__(self, enter: Way) -> None:
        self._enter = enter
        self.is_in = threading.Event()
        self._leave = threading.Event()
        self._thread = threading.Thread(target=self._stay, daemon=True)
        self._thread.start()

    def _stay(self) -> None:
        with self._enter():
            self.is_in.set()
            self._leave.wait(PATIENCE)

    def go(self) -> None:
        """Leave, and wait until that is done."""
        self._leave.set()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()


@pytest.fixture
def guests() -> Iterator[Callable[[Way], Guest]]:
    """Makes guests, who leave at the end of the test."""
    made: list[Guest] = []

    def make(enter: Way) -> Guest:
        made.append(Guest(enter))
        return made[-1]

    yield make
    for guest in made:
        guest._leave.set()
    for guest in made:
        guest.go()


def until_waiting(captures: Captures, *, using: int) -> None:
    """Wait until so many loop runs wait for a capture."""
    wait_for(lambda: captures._waiting == using)


def enter(guest: Guest) -> None:
    assert guest.is_in.wait(PATIENCE)


def test_loop_runs_go_on_side_by_side_and_beside_an_opening(
    guests: Callable[[Way], Guest],
) -> None:
    captures = Captures()
    for way in (captures.using, captures.opening, captures.using):
        enter(guests(way))  # nobody has left


@pytest.mark.parametrize("guest", ["opening", "capturing"])
def test_openings_and_captures_come_one_after_another(
    guests: Callable[[Way], Guest], guest: str
) -> None:
    captures = Captures()
    opening = guests(captures.opening)
    enter(opening)
    second = guests(getattr(captures, guest))
    assert not captures._turn.acquire(blocking=False)
    assert not second.is_in.is_set()
    opening.go()
    enter(second)


def test_capture_waits_for_loop_runs_that_have_begun(guests: Callable[[Way], Guest]) -> None:
    captures = Captures()
    runs = [guests(captures.using) for _ in range(2)]
    for run in runs:
        enter(run)
    capture = guests(captures.capturing)
    runs[0].go()
    assert not capture.is_in.is_set()
    runs[1].go()
    enter(capture)


def test_loop_run_that_waited_comes_before_the_next_capture(
    guests: Callable[[Way], Guest],
) -> None:
    captures, order = Captures(), []

    @contextmanager
    def noted(name: str, way: Way) -> Iterator[None]:
        with way():
            order.append(name)
            yield

    first = guests(captures.capturing)
    enter(first)
    run = guests(lambda: noted("run", captures.using))
    until_waiting(captures, using=1)
    second = guests(lambda: noted("capture", captures.capturing))
    assert not run.is_in.is_set()
    first.go()
    enter(run)
    assert not second.is_in.is_set()
    run.go()
    enter(second)
    assert order == ["run", "capture"]


def test_failed_capture_lets_the_others_go_on(guests: Callable[[Way], Guest]) -> None:
    captures = Captures()

    def fail() -> None:
        with captures.capturing():
            runs.append(guests(captures.using))
            until_waiting(captures, using=1)
            raise MemoryError

    runs: list[Guest] = []
    with pytest.raises(MemoryError):
        fail()
    [run] = runs
    enter(run)
    run.go()
    with captures.capturing():
        pass


class Kernel:
    """What holds memory on the device, and tells when it is freed."""

    def __init__(self, freed: list[str]) -> None:
        self._freed = freed

    def __del__(self) -> None:
        self._freed.append("freed")


class Owner:
    """What holds that, in a circle of references."""

    def __init__(self, held: Kernel) -> None:
        self.held = held
        self.itself = self


@pytest.mark.parametrize("then", ["using", "opening"])
def test_what_was_dropped_during_a_capture_is_freed_after_it(then: str) -> None:
    captures, freed = Captures(), []  # type: tuple[Captures, list[str]]
    owner = Owner(Kernel(freed))
    captures.free_apart(owner, owner.held)
    del owner
    with captures.capturing():
        gc.collect()
        assert not freed
    assert not freed
    with getattr(captures, then)():
        pass
    assert freed == ["freed"]
