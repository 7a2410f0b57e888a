"""A text that was read in an encoding that it is not in is told, and still trained on."""

import pytest

from tests.training.data.decoding.test_decode import decode_text
from training.data.decoding.decode import Rules

RUSSIAN = "Жизнь прожить - не поле перейти. Все счастливые семьи похожи. " * 9
TEXTS = {
    "Все счастливые семьи похожи друг на друга.": ("cp1251", "koi8-r", "iso8859-5"),
    "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι.": ("cp1253", "iso8859-7"),
    "כל בני האדם נולדו בני חורין ושווים בערכם.": ("cp1255",),
    "يولد جميع الناس أحرارا متساوين في الكرامة": ("cp1256",),
    "Příliš žluťoučký kůň úpěl ďábelské ódy.": ("cp1250", "iso8859-2"),
    "Élève, Noël, œuvre: “bien sûr”, ça coûte 5 €… À L'ÉCOLE": ("cp1252", "cp1254"),
    "FÜR „GROẞE“ ÄPFEL ÜBER ÖL, süß": ("utf-8",),
    "Þórður bóndi, ÁÐUR: £5, £6": ("latin-1", "cp1252"),
    "吾輩は猫である。名前はまだ無い。": ("shift_jis", "euc-jp"),
    "人之初，性本善。": ("gb18030", "big5"),
    "Bütün insanlar hür doğarlar ve kardeşlik zihniyeti ile hareket etmelidirler.": (
        "cp1254",
        "iso8859-9",
    ),
    "a \x85 b \x80": ("utf-8",),
    "no letter beyond ASCII": ("ascii", "cp1252"),
}


def notes(data: bytes, encoding: str) -> str:
    """Return what a training says of a text's bytes when it is read."""
    rules = Rules(encoding=encoding)
    text, facts = decode_text(data, rules, "any")
    assert text == data.decode(encoding)
    return "; ".join(facts.notes(rules))


@pytest.mark.parametrize(
    ("text", "encoding"), [(text, each) for text, right in TEXTS.items() for each in right]
)
def test_text_in_its_own_encoding_raises_no_doubt(text: str, encoding: str) -> None:
    assert "read as" not in notes((text * 20).encode(encoding), encoding)


@pytest.mark.parametrize("wrong", ["cp1252", "latin-1", "cp1250", "cp1254"])
@pytest.mark.parametrize("right", ["koi8-r", "cp1251"])
def test_cyrillic_read_as_latin_is_told_with_its_encoding(right: str, wrong: str) -> None:
    told = notes(RUSSIAN.encode(right), wrong)
    begun = repr(RUSSIAN.encode(right).decode(wrong)[:24])
    found = "100% of its letters are accented Latin ones"
    assert told.startswith(f"read as {wrong}, {found}: {begun}; --encoding worth trying: {right}")


@pytest.mark.parametrize(("right", "wrong"), [("koi8-r", "cp1251"), ("cp1251", "koi8-r")])
def test_cyrillic_in_capitals_but_for_the_first_letters_is_told(right: str, wrong: str) -> None:
    told = notes(RUSSIAN.encode(right), wrong)
    assert told.startswith(f"read as {wrong}, its words begin with a small letter and go on in")
    assert f"--encoding worth trying: {right}" in told


def test_control_characters_of_a_text_are_told() -> None:
    told = notes(("“oui”, dit-il. " * 5).encode("cp1252"), "latin-1")
    assert told.startswith("read as latin-1, it has 10 control characters (U+0080 to U+009F): ")
    assert "--encoding worth trying: cp125" in told


def test_text_that_fits_no_known_encoding_is_told_to_check_it() -> None:
    assert notes(RUSSIAN.encode("cp866"), "latin-1").endswith("; check --encoding")


def test_few_unusual_letters_raise_no_doubt() -> None:
    assert notes("éèüß".encode("cp1252"), "cp1252") == ""
