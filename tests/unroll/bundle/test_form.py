"""The form of a text: the same text, however it was typed."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unroll.bundle.form import TextForm
from unroll.bundle.vocabulary import Vocabulary
from unroll.errors import UnknownSymbolError
from unroll.terms import UnknownSymbols

BOTH = TextForm(line_ends="newline", unicode="nfc")
texts = st.text(st.sampled_from("ae\u0301é\r\n\u1100\u1161가"), max_size=20)


@given(text=texts)
def test_a_form_leaves_what_has_it_alone(text: str) -> None:
    once = BOTH.apply(text)
    assert BOTH.apply(once) == once
    assert "\r" not in once
    assert unicodedata.is_normalized("NFC", once)
    assert TextForm().apply(text) == text


@given(text=texts)
def test_parts_of_a_text_in_form_are_in_form(text: str) -> None:
    whole = BOTH.apply(text)
    assert all(BOTH.apply(whole[cut:]) == whole[cut:] for cut in range(len(whole)))


def test_a_vocabulary_reads_texts_in_its_form() -> None:
    vocabulary = Vocabulary("\naé", "\n", BOTH)
    assert vocabulary.encode("e\u0301\r\na\r").tolist() == [2, 0, 1, 0]
    assert vocabulary.count_unknown("e\u0301\r\na\r") == 0
    plain = Vocabulary("\naé", "\n")
    assert plain != vocabulary
    assert plain.encode("e\u0301\r\na\r", unknown=UnknownSymbols.SKIP).tolist() == [0, 1]
    with pytest.raises(UnknownSymbolError, match=r"4 of 6 symbols"):
        plain.encode("e\u0301\r\na\r")
