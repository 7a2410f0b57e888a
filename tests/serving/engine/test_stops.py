"""Where a text stops does not depend on how it came."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from serving.engine.sequences.stops import BITS, scan, stop_masks
from unroll.bundle.vocabulary import Vocabulary

VOCABULARY = Vocabulary("xab", "x")

# Two letters and short strings: prefixes, overlaps and stops inside stops are common.
texts = st.text("ab", max_size=16)
stops_lists = st.lists(st.text("ab", min_size=1, max_size=5), max_size=4).map(tuple)


def by_definition(text: str, stops: tuple[str, ...]) -> tuple[str, int | None]:
    """Try every occurrence: the smallest end wins, then the earliest start."""
    found = [
        (start + len(stop), start)
        for stop in stops
        for start in range(len(text))
        if text.startswith(stop, start)
    ]
    if not found:
        return text, None
    end, start = min(found)
    return text[:start], end


def in_pieces(pieces: list[str], stops: tuple[str, ...]) -> tuple[str, str, int | None]:
    """Feed the pieces; return what was settled, what was held back, and where it ended."""
    settled = held = ""
    for piece in pieces:
        text = held + piece
        found = scan(text, stops)
        begin = len(settled)
        settled, held = settled + text[: found.settled], text[found.settled :]
        if found.ends_at is not None:
            return settled, held, begin + found.ends_at
    return settled, held, None


def cut(text: str, places: list[int]) -> list[str]:
    """Cut a text at places, some of which may be equal."""
    ends = sorted(place % (len(text) + 1) for place in places)
    return [text[a:b] for a, b in zip([0, *ends], [*ends, len(text)], strict=True)]


@given(texts, stops_lists, st.lists(st.integers(0, 16), max_size=16))
def test_any_cut_gives_the_outcome_of_the_definition(
    text: str, stops: tuple[str, ...], places: list[int]
) -> None:
    settled, held, end = in_pieces(cut(text, places), stops)
    before, expected_end = by_definition(text, stops)
    assert end == expected_end
    assert (settled if end is not None else settled + held) == before


@given(texts, stops_lists)
def test_what_is_held_back_is_the_longest_end_that_may_become_a_stop(
    text: str, stops: tuple[str, ...]
) -> None:
    found = scan(text, stops)
    if found.ends_at is None:
        beginnings = {stop[:length] for stop in stops for length in range(len(stop))}
        ends = [text[start:] for start in range(len(text) + 1)]
        assert text[found.settled :] == next(end for end in ends if end in beginnings | {""})


def test_stop_that_ends_first_wins_over_one_that_starts_first() -> None:
    assert by_definition("xabcd", ("abcd", "bc")) == ("xa", 4)
    assert in_pieces(["xab", "cd"], ("abcd", "bc"))[::2] == ("xa", 4)


def test_longer_of_two_that_end_together_wins() -> None:
    assert in_pieces(["xa", "bc"], ("bc", "abc"))[::2] == ("x", 4)


@given(texts, texts, stops_lists)
def test_masks_find_the_first_stop_that_ends_behind_what_came_before(
    before: str, text: str, stops: tuple[str, ...]
) -> None:
    masks = stop_masks(stops, VOCABULARY)
    assert masks is not None
    state, ends = masks.after(before), []
    for token in VOCABULARY.encode(text):
        state = (state << np.uint64(1) | masks.begins) & masks.masks[token]
        ends.append(bool(state & masks.ends))
    found = scan(before + text, stops, len(before)).ends_at
    assert (ends.index(True) + 1 + len(before) if True in ends else None) == found


def test_stop_strings_have_masks_up_to_the_bits_of_a_state() -> None:
    assert stop_masks(("a" * BITS,), VOCABULARY) is not None
    assert stop_masks(("a" * BITS, "b"), VOCABULARY) is None


def test_stop_string_that_the_vocabulary_cannot_spell_never_ends_a_text() -> None:
    masks = stop_masks(("a?",), VOCABULARY)
    assert masks is not None
    assert not masks.ends
    assert not masks.masks.any()
