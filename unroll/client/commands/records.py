"""Files of texts and of what became of them: one record a line, as text, TSV or JSONL."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import Any

from unroll.errors import InputError, SettingsError
from unroll.results import Answer, Generation, Score

STANDARD = Path("-")  # input or output
_ESCAPES = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}
_TABLE = str.maketrans(_ESCAPES)
_UNESCAPED = {escape[1]: symbol for symbol, escape in _ESCAPES.items()}


class Format(Enum):
    """What a line of a file is."""

    TEXT = "text"
    """The text itself."""
    TSV = "tsv"
    """Fields with tabs between them; within them `\\t`, `\\n`, `\\r` and `\\\\` are escaped."""
    JSONL = "jsonl"
    """A JSON object."""


class RecordFormat(Enum):
    """What a line of an output is."""

    TSV = "tsv"
    """Fields, as in Format."""
    JSONL = "jsonl"
    """A JSON object."""


def input_format(file: Path, given: Format | None) -> Format:
    """Return an input's format: what was given, else by its suffix."""
    return given or {".tsv": Format.TSV, ".jsonl": Format.JSONL}.get(file.suffix, Format.TEXT)


def output_format(file: Path, given: RecordFormat | None) -> RecordFormat:
    """Return an output's format: what was given, else by its suffix."""
    return given or (RecordFormat.TSV if file.suffix == ".tsv" else RecordFormat.JSONL)


def read_texts(lines: Iterable[bytes], form: Format, field: str) -> Iterator[str]:
    """Read the text in each line.

    Args:
        lines: each with its end.
        form: what they are. Of TSV, the first field is the text.
        field: what the text is called in a JSON object; a JSON string is a text, too.

    Raises:
        InputError: a line is not of that form; names the line.
    """
    for number, line in enumerate(lines, 1):
        try:
            text = line.removesuffix(b"\n").removesuffix(b"\r").decode()
            yield text if form is Format.TEXT else _READERS[form](text, field)
        except UnicodeDecodeError as error:
            found = line[error.start : error.start + 4].hex(" ")
            raise InputError(
                "input",
                f"line {number}: bytes {found} at offset {error.start} of the line are not utf-8; "
                "convert the file to UTF-8",
            ) from error
        except ValueError as error:
            raise InputError("input", f"line {number}: {error}; the file must be UTF-8") from error


def _read_tsv(line: str, field: str) -> str:
    symbols, text = iter(line.partition("\t")[0]), []
    for symbol in symbols:
        escaped = next(symbols, "") if symbol == "\\" else ""
        if symbol == "\\" and escaped not in _UNESCAPED:
            raise ValueError(f"\\{escaped} is not an escape; write \\\\ for a backslash")
        text.append(_UNESCAPED[escaped] if escaped else symbol)
    return "".join(text)


def _read_json(line: str, field: str) -> str:
    try:
        value = json.loads(line)
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error
    text = value.get(field) if isinstance(value, dict) else value
    if not isinstance(text, str):
        raise ValueError(f"must be a JSON string, or an object with a string {field!r}")
    return text


_READERS = {Format.TSV: _read_tsv, Format.JSONL: _read_json}


def write_generation(
    form: RecordFormat, index: int, seed: int, answer: Answer[Generation]
) -> bytes:
    """Write what became of a prompt.

    Args:
        form: TSV or JSONL. TSV has index, seed, finish reason and text, or `error` and what it is.
        index: of the record, from 0.
        seed: of its text.
        answer: its text or error.
    """
    if answer.error is not None:
        return _line(form, {"index": index, "seed": seed}, error=str(answer.error))
    reason = answer.result.completion.finish_reason.value
    written = {"index": index, "seed": seed, "finish_reason": reason, "text": answer.result.text}
    return _line(form, written | _along(answer.result))


def write_score(form: RecordFormat, index: int, answer: Answer[Score]) -> bytes:
    """Write what became of a text to score.

    Args:
        form: TSV or JSONL. TSV has index, symbols, bits per character, or `error` and what it is.
        index: of the record, from 0.
        answer: its score or error.
    """
    if answer.error is not None:
        return _line(form, {"index": index}, error=str(answer.error))
    score = answer.result
    written = {
        "index": index,
        "symbols": score.usage.prompt_symbols,
        "bits_per_character": score.bits_per_character,
    }
    return _line(form, written | _along(score))


def _along(result: Generation | Score) -> dict[str, Any]:
    """Return what is told of each symbol, if alternatives were asked for."""
    if not result.alternatives:
        return {}
    alternatives = [asdict(each) for each in result.alternatives]
    return {"log_probs": result.log_probs, "alternatives": alternatives}


def escaped(text: str) -> str:
    """Return a text as a field of TSV."""
    return text.translate(_TABLE)


def _line(form: RecordFormat, record: dict[str, Any], error: str | None = None) -> bytes:
    if form is RecordFormat.JSONL:
        whole = record if error is None else {**record, "error": error}
        return (json.dumps(whole, ensure_ascii=False) + "\n").encode()
    fields = [*record.values(), *(() if error is None else ("error", error))]
    return ("\t".join(escaped(str(field)) for field in fields) + "\n").encode()


def seed_of(form: RecordFormat, line: bytes) -> int:
    """Return the seed that a line of write_generation names.

    Raises:
        SettingsError: it is no such line.
    """
    try:
        if form is RecordFormat.JSONL:
            return int(json.loads(line)["seed"])
        return int(line.split(b"\t")[1])
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise SettingsError(
            "output: its last line is not a record of this command; name another --output"
        ) from error
