"""Records: what goes into a file comes out of it, and bad lines are named."""

import json

import pytest

from unroll.client.commands.records import (
    Format,
    RecordFormat,
    read_texts,
    seed_of,
    write_generation,
    write_score,
)
from unroll.errors import InputError, SettingsError
from unroll.results import Answer, Completion, Generation, Usage
from unroll.terms import FinishReason

TEXTS = [
    "",
    "a",
    "tab\there",
    "two\nlines\r\n",
    "back\\slash \\n",
    "£ \u2028 \x85 \x0b",
    '"quoted"',
]
USAGE = Usage(prompt_symbols=1, generated_symbols=2, unknown_symbols=0)


def generation(text: str) -> Answer[Generation]:
    completion = Completion(
        finish_reason=FinishReason.STOP, usage=USAGE, seed=7, fingerprint="f", position=3
    )
    return Answer(index=0, value=Generation(text=text, log_probs=(), completion=completion))


@pytest.mark.parametrize("form", list(RecordFormat))
def test_any_text_is_one_line_and_comes_back(form: RecordFormat) -> None:
    written = [write_generation(form, 5, 12, generation(text)) for text in TEXTS]
    lines = b"".join(written).split(b"\n")
    assert len(lines) == len(TEXTS) + 1
    assert {seed_of(form, line) for line in written} == {12}
    if form is RecordFormat.JSONL:
        assert list(read_texts(written, Format.JSONL, "text")) == TEXTS
    else:
        last = [line.split(b"\t", 3)[3] for line in written]
        assert list(read_texts(last, Format.TSV, "text")) == TEXTS


def test_lines_of_a_text_are_texts_whatever_ends_them() -> None:
    lines = [b"a\n", b"\n", b" b\t\r\n", b"\xc2\xa3"]
    assert list(read_texts(lines, Format.TEXT, "prompt")) == ["a", "", " b\t", "£"]


def test_first_field_of_a_tsv_is_the_text_and_a_json_string_too() -> None:
    assert list(read_texts([b"a\\tb\tlabel\n"], Format.TSV, "text")) == ["a\tb"]
    lines = [b'"a"\n', b'{"id": 4, "text": "b"}\n']
    assert list(read_texts(lines, Format.JSONL, "text")) == ["a", "b"]


@pytest.mark.parametrize(
    ("form", "line"),
    [
        (Format.TEXT, b"\xff\n"),
        (Format.TSV, b"a\\x\n"),
        (Format.TSV, b"a\\\n"),
        (Format.JSONL, b"{\n"),
        (Format.JSONL, b'{"prompt": "a"}\n'),
        (Format.JSONL, b"7\n"),
        (Format.JSONL, b"\n"),
    ],
)
def test_bad_line_is_named(form: Format, line: bytes) -> None:
    with pytest.raises(InputError, match=r"input: line 2: ") as caught:
        list(read_texts([b'"a"\n', line], form, "text"))
    assert caught.value.field == "input"


def test_bytes_that_are_not_utf8_are_named_with_their_place() -> None:
    expected = "line 1: bytes f4 20 6e 6f at offset 3 of the line are not utf-8; convert the file"
    with pytest.raises(InputError, match=expected):
        list(read_texts([b"caf\xf4 noir\n"], Format.TEXT, "text"))


def test_error_is_told_in_the_record() -> None:
    failed: Answer[Generation] = Answer(index=0, error=InputError("prompt", "is\twrong"))
    assert json.loads(write_generation(RecordFormat.JSONL, 1, 2, failed)) == {
        "index": 1,
        "seed": 2,
        "error": "prompt: is\twrong",
    }
    assert write_generation(RecordFormat.TSV, 1, 2, failed) == b"1\t2\terror\tprompt: is\\twrong\n"
    assert write_score(RecordFormat.TSV, 1, Answer(index=0, error=InputError("text", "no"))) == (
        b"1\terror\ttext: no\n"
    )


@pytest.mark.parametrize("line", [b"{}\n", b"a\n", b'{"seed": "x"}\n', b"\n"])
def test_seed_of_what_is_no_record_is_refused(line: bytes) -> None:
    for form in RecordFormat:
        with pytest.raises(SettingsError, match="not a record of this command"):
            seed_of(form, line)
