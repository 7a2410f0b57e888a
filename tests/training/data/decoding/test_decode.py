"""Bytes become the text that they are, or an error that says what they might be."""

import codecs
import gzip
import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.decoding.decode import Facts, Rules, decode
from unroll.bundle.form import TextForm
from unroll.errors import CorpusError, SettingsError


def decode_text(data: bytes, rules: Rules, name: str) -> tuple[str, Facts]:
    pieces, facts = decode([(name, lambda: [data])], rules)
    return "".join(pieces), facts


@given(text=st.text(st.characters(codec="utf-8", exclude_characters="\0\r\ufeff"), max_size=50))
def test_utf8_text_of_any_script_is_read_as_it_is(text: str) -> None:
    decoded, facts = decode_text(text.encode(), Rules(), "any")
    assert decoded == text or "encoded twice" in facts.notes(Rules())[0]


@pytest.mark.parametrize(
    "text", ["안녕하세요 세계", "e\u0301te\u0301", "👩‍🔬 wins", "Жизнь", "naïve café £5 – “so”"]
)
def test_scripts_emoji_and_combining_marks_are_left_alone(text: str) -> None:
    decoded, facts = decode_text(text.encode(), Rules(), "any")
    assert (decoded, facts.notes(Rules())) == (text, ())


def test_byte_order_mark_and_carriage_returns_are_removed_with_a_note() -> None:
    data = codecs.BOM_UTF8 + b"one\r\ntwo\rthree\n"
    text, facts = decode_text(data, Rules(), "any")
    assert text == "one\ntwo\nthree\n"
    assert len(facts.notes(Rules())) == 2


def test_text_that_was_encoded_twice_is_repaired_with_a_note() -> None:
    right = "The café at St. Denis, £5 and an écu; the Comtesse’s bijoux.\n"
    wrong = right.encode().decode("cp1252")
    text, facts = decode_text((wrong * 3).encode(), Rules(), "any")
    assert text == (right * 3).replace("’", text[right.index("’")])
    assert len(text) == 3 * len(right)
    (note,) = facts.notes(Rules())
    assert "encoded twice: 'Ã©' to 'é' (6 times)" in note
    kept, facts = decode_text((wrong * 3).encode(), Rules(repair=False), "any")
    assert (kept, facts.notes(Rules(repair=False))) == (wrong * 3, ())


@pytest.mark.parametrize("text", ["literele Ă, Â și Î; Â este", "Â £5", "PÂTÉ »", "l’été: Ã et Â."])
def test_correct_text_is_not_repaired(text: str) -> None:
    """ftfy takes a lone Â before a space for half a no-break space."""
    assert decode_text(text.encode(), Rules(), "any")[0] == text


def test_a_few_places_that_look_encoded_twice_are_left_alone_and_told() -> None:
    text = "déjà vu, naïveté, façade, hôtel; cafÃ© " * 3
    decoded, facts = decode_text(text.encode(), Rules(), "any")
    assert decoded == text
    (note,) = facts.notes(Rules())
    assert "left alone" in note
    assert "'Ã©' to 'é' (3 times)" in note


def test_carriage_returns_are_kept_where_that_is_asked_for() -> None:
    rules = Rules(keep_line_ends=True)
    text, facts = decode_text(b"one\r\ntwo\r", rules, "any")
    assert (text, facts.notes(rules)) == ("one\r\ntwo\r", ())
    assert facts.form(rules) == TextForm(line_ends="any", unicode="nfc")


def test_the_form_is_nfc_where_the_whole_text_is() -> None:
    composed, apart = "é\n" * 5, "é\n" * 4 + "e\u0301"
    assert decode_text(composed.encode(), Rules(), "any")[1].form(Rules()).unicode == "nfc"
    assert decode_text(apart.encode(), Rules(), "any")[1].form(Rules()).unicode == "any"
    assert decode_text(composed.encode(), Rules(), "any")[1].form(Rules(nfc=False)).unicode == "any"


@given(
    text=st.text(st.sampled_from("ab\r\né€\U0001f600\ufeff"), max_size=40),
    cuts=st.lists(st.integers(0, 60), max_size=5),
    encoding=st.sampled_from(["utf-8", "utf-16", "utf-8-sig"]),
)
def test_text_does_not_depend_on_where_its_bytes_are_cut(
    text: str, cuts: list[int], encoding: str
) -> None:
    data, rules = text.encode(encoding), Rules(encoding=encoding)
    ends = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    chunks = [data[a:b] for a, b in itertools.pairwise(ends)]
    pieces, facts = decode([("any", lambda: chunks)], rules)
    whole, of_whole = decode_text(data, rules, "any")
    assert "".join(pieces) == whole
    assert facts.notes(rules) == of_whole.notes(rules)


RUSSIAN = "Жизнь прожить - не поле перейти. Все счастливые семьи похожи друг на друга. "


LOWER = "под деревом спит собака, "


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (RUSSIAN, "cp1251"),
        (RUSSIAN, "koi8-r"),
        (LOWER, "cp1251"),
        (LOWER, "koi8-r"),
        ("un café noir, naïve, très bien", "cp1252"),
        ("안녕하세요", "euc-kr"),
        ("吾輩は猫である。名前はまだ無い。", "shift_jis"),
        ("hello", "utf-16"),
        ("hello", "utf-32"),
        ("hello there", "utf-16-le"),
        ("hello there", "utf-16-be"),
        ("hello there", "utf-32-le"),
        (RUSSIAN, "utf-16-le"),
        (RUSSIAN, "utf-16-be"),
        ("人之初，性本善。\n" * 9, "utf-16-le"),
    ],
)
def test_a_refused_text_names_the_encoding_it_is_in(text: str, encoding: str) -> None:
    data = text.encode(encoding)
    with pytest.raises(CorpusError) as raised:
        decode_text(data, Rules(), "any")
    first = str(raised.value).partition("trying: ")[2].partition(";")[0].split(", ")[0]
    assert first == encoding
    assert decode_text(data, Rules(encoding=first), "any")[0] == text


@pytest.mark.parametrize(
    ("encoding", "data", "likely"),
    [
        ("utf-16", b"plain words", "utf-8"),
        ("utf-16", "“plain” words – of £5".encode(), "utf-8"),
        ("utf-16", "hello there".encode("utf-16-le"), "utf-16-le"),
    ],
)
def test_text_without_the_byte_order_mark_that_its_encoding_needs_is_refused(
    encoding: str, data: bytes, likely: str
) -> None:
    with pytest.raises(CorpusError, match=f"is not {encoding}: .*trying: {likely}"):
        decode_text(data, Rules(encoding=encoding), "any")


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (gzip.compress(b"text", mtime=0), "gzip"),
        (b"PK\x03\x04rest", "zip"),
        (b"%PDF-1.7", "PDF"),
        (b"\x89PNG\r\n\x1a\nrest", "a PNG image, and no text"),
        (b"\xff\xd8\xff\xe0rest", "a JPEG image, and no text"),
    ],
)
def test_what_is_no_text_is_named(data: bytes, what: str) -> None:
    with pytest.raises(CorpusError, match=what):
        decode_text(data, Rules(), "any")


RANDOM = random.Random(4)


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
@pytest.mark.parametrize(
    "data",
    [
        RANDOM.randbytes(9000),
        b"".join(RANDOM.randrange(200).to_bytes(2) for _ in range(5000)),
        b"\x7fELF\x02\x01\x01" + b"".join(RANDOM.randbytes(2) + bytes(6) for _ in range(900)),
        b"name\0\0\0\x03\x01\0" * 99,
    ],
    ids=["random", "numbers", "program", "records"],
)
def test_bytes_that_are_no_text_get_no_encoding_to_try(data: bytes, encoding: str) -> None:
    with pytest.raises(CorpusError, match=r"does not look like text, with .*; take a text file"):
        decode_text(data, Rules(encoding=encoding), "any")


def test_nuls_that_end_names_are_symbols_of_the_text() -> None:
    data = b"notes/of a journey.txt\0notes/of another journey.txt\0letters.txt\0" * 9
    assert decode_text(data, Rules(), "any")[0] == data.decode()


def test_undecodable_bytes_name_the_offset_and_can_be_replaced() -> None:
    data = "caf\u00e9 noir".encode("cp1252")
    with pytest.raises(CorpusError, match=r"e9 20 6e 6f at offset 3 are not utf-8.*--bad-bytes"):
        decode_text(data, Rules(), "cafe")
    pieces, _ = decode([("cafe", lambda: [b"abc" * 100, data])], Rules(repair=False))
    with pytest.raises(CorpusError, match=r"at offset 303 are not utf-8"):
        list(pieces)
    with pytest.raises(CorpusError, match=r"c3 at offset 300 are not utf-8"):
        decode_text(b"abc" * 100 + b"\xc3", Rules(), "cut off")
    rules = Rules(bad_bytes="replace")
    text, facts = decode_text(data, rules, "cafe")
    assert text == "caf\ufffd noir"
    assert "1 symbols are U+FFFD" in facts.notes(rules)[0]


def test_unknown_encodings_are_a_setting_error() -> None:
    with pytest.raises(SettingsError, match="no such encoding"):
        decode_text(b"a", Rules(encoding="utf-9"), "any")
