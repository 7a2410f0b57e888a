"""Random patterns over a few symbols."""

import re

from hypothesis import strategies as st

SYMBOLS = "ab1 "  # that patterns name; classes name others too
LEAVES = st.sampled_from(
    [
        "a",
        "b",
        "1",
        " ",
        ".",
        r"\d",
        r"\w",
        r"\s",
        "[ab]",
        "[^a]",
        "[a-z]",
        "é",
        "(?i:A)",
        r"\D",
        "x",
    ]
)


def _repeated(inner: str, times: tuple[int, int], suffix: str) -> str:
    least, more = times
    return f"(?:{inner})" + (suffix or f"{{{least},{least + more}}}")


patterns = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds("{}{}".format, inner, inner),
        st.builds("(?:{}|{})".format, inner, inner),
        st.builds("({}|)".format, inner),
        st.builds(
            _repeated,
            inner,
            st.tuples(st.integers(0, 2), st.integers(0, 2)),
            st.sampled_from(["", "*", "+", "?", "*?", "+?", "??"]),
        ),
    ),
    max_leaves=7,
)


def matches(pattern: str, text: str) -> bool:
    """Whether Python says that a text matches as a whole."""
    return re.fullmatch(pattern, text) is not None
