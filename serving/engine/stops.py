"""How a text ends: stop strings, found in a text that comes in pieces."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Scan:
    """What one more piece of text settled.

    Attributes:
        settled: how many symbols of held + new text can go out.
        ends_at: where a stop string ends in held + new text, if one is complete.
    """

    settled: int
    ends_at: int | None


def scan(text: str, stops: tuple[str, ...], held: int = 0) -> Scan:
    """Find the stop string that is complete first, or what might become one.

    The answer for the whole text does not depend on how it was cut into pieces: the stop string
    with the smallest end wins and, of those that end together, the one that starts first.

    Args:
        text: what an earlier scan held back, then the new text.
        stops: the stop strings, none empty.
        held: how many symbols an earlier scan held back; no stop string that ends there counts, for
            the stop strings may be others than they were.
    """
    found = [
        (start + len(stop), start)
        for stop in stops
        if (start := text.find(stop, max(held - len(stop) + 1, 0))) >= 0
    ]
    if found:
        end, start = min(found)
        return Scan(settled=start, ends_at=end)
    longest = min(max(map(len, stops), default=0) - 1, len(text))
    for length in range(longest, 0, -1):
        tail = text[-length:]
        if any(stop.startswith(tail) for stop in stops):
            return Scan(settled=len(text) - length, ends_at=None)
    return Scan(settled=len(text), ends_at=None)
