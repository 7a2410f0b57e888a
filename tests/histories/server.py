"""A server with short leases and, if asked for, with an odd clock and a planted fault."""

import sys
import time
import types

from serving import __main__ as program
from serving.sessions.redis import store as redis_store
from tests.histories.planted import PLANTED


def main(lease_seconds: float, clock_seconds: float, planted: str, words: list[str]) -> None:
    """Serve.

    Args:
        lease_seconds: how long its leases last.
        clock_seconds: by which its clock is ahead.
        planted: name of a fault in PLANTED; empty for none.
        words: of its command line.
    """
    _set_clock(clock_seconds)
    setattr(redis_store, "LEASE_SECONDS", lease_seconds)  # noqa: B010, which mypy would refuse
    redis_store.RedisStore.lease_seconds = lease_seconds
    if planted:
        PLANTED[planted]()
    program.main(words)


def _set_clock(ahead: float) -> None:
    """Let our modules have a clock that is ahead; gRPC's deadlines compare Python's with C's."""
    clock = types.ModuleType("time")
    vars(clock).update(vars(time), time=lambda: time.time() + ahead)
    for name, module in [*sys.modules.items()]:
        if name.startswith(("serving.", "unroll.")) and getattr(module, "time", None) is time:
            setattr(module, "time", clock)  # noqa: B010, of a module


if __name__ == "__main__":
    lease, clock, name, *rest = sys.argv[1:]
    main(float(lease), float(clock), name, rest)
