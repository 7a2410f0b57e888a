"""A manifest that is wrong, or contradicts itself or its graphs, is refused with what is wrong."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unroll.bundle.damage import Json, read, refuse, write
from unroll.bundle.manifest import MANIFEST, STEP


def _unknown(m: Json) -> None:
    m["colour"] = "red"


def _unknown_inside(m: Json) -> None:
    m["model"]["colour"] = "red"


def _without_state(m: Json) -> None:
    del m["state"]


def _without_dtype(m: Json) -> None:
    del m["state"][0]["dtype"]


def _number_for_text(m: Json) -> None:
    m["symbols"] = 11


def _text_for_number(m: Json) -> None:
    m["files"][STEP]["size"] = "many"


def _graphs_as_list(m: Json) -> None:
    m["graphs"] = list(m["graphs"])


def _float_dimension(m: Json) -> None:
    m["state"][0]["shape"] = [3, "batch", 7.5]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (_unknown, "colour"),
        (_unknown_inside, "colour"),
        (_without_state, "state"),
        (_without_dtype, "state.dtype"),
        (_number_for_text, "symbols"),
        (_text_for_number, "files.size"),
        (_graphs_as_list, "graphs"),
        (_float_dimension, "state.shape"),
    ],
)
def test_key_that_is_unknown_missing_or_of_another_type_is_named(
    bundle: Path, change: Callable[[Json], None], named: str
) -> None:
    manifest = read(bundle)
    change(manifest)
    write(bundle, manifest)
    refuse(bundle, MANIFEST, named)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        (b'"format_version"', b'"x": ' + b"[" * 100_000 + b', "format_version"', "nested"),
        (b'"format_version"', b'"symbols": "ab", "format_version"', "the key 'symbols' is there"),
        (b'"members": 1', b'"members": true', "model.members = True: there is no truth value"),
        (b'"members": 1', b'"members": 0', "model.members = 0: must be 1 to"),
        (b'"members": 1', b'"members": 2147483648', "model.members = 2147483648: must be 1 to"),
        (b'"members": 1', b'"members": -1', "model.members = -1: must be a whole number from 0"),
        (b'"members": 1', b'"members": 1.0', "members"),
        (
            b'"updates": 0',
            b'"updates": 1180591620717411303424',
            "training.updates = 1.18e+21",
        ),
        (b'"training_loss": 2.5', b'"training_loss": NaN', "training.training_loss = nan"),
        (b'"training_loss": 2.5', b'"training_loss": 1e999', "training.training_loss = inf"),
        (b'"corpus": "tiny"', b'"corpus": "\\ud83d"', "training.corpus: U+D83D is half a"),
    ],
)
def test_manifest_whose_values_make_no_sense_is_refused(
    bundle: Path, old: bytes, new: bytes, named: str
) -> None:
    whole = (bundle / MANIFEST).read_bytes()
    assert whole.count(old) == 1
    (bundle / MANIFEST).write_bytes(whole.replace(old, new))
    refuse(bundle, MANIFEST, named)


def _file_too_many(m: Json) -> None:
    m["files"]["../secret"] = {"size": 1, "sha256": "0"}


def _file_too_few(m: Json) -> None:
    del m["files"][STEP]


def _graph_too_few(m: Json) -> None:
    del m["graphs"][STEP]


def _no_state(m: Json) -> None:
    m["state"] = []


def _state_of_another_input(m: Json) -> None:
    m["state"][1]["input"] = "d_0"


def _state_of_another_output(m: Json) -> None:
    m["state"][1]["output"] = "d_n"


def _state_of_another_width(m: Json) -> None:
    m["state"][0]["shape"] = [3, "batch", 8]


def _state_of_another_dtype(m: Json) -> None:
    m["state"][0]["dtype"] = "float16"


def _state_without_batch(m: Json) -> None:
    m["state"][0]["shape"] = [3, "rows", 7]


def _state_of_rank_two(m: Json) -> None:
    m["state"][0]["shape"] = ["batch", 7]


def _state_without_layers(m: Json) -> None:
    m["state"][0]["shape"] = [0, "batch", 7]


def _state_of_symbolic_width(m: Json) -> None:
    m["state"][0]["shape"] = [3, "batch", "hidden"]


def _one_symbol_more(m: Json) -> None:
    m["symbols"] += "x"


def _symbol_twice(m: Json) -> None:
    m["symbols"] = m["symbols"][:-1] + "a"


def _foreign_start(m: Json) -> None:
    m["start_symbol"] = "z"


def _no_logits(m: Json) -> None:
    m["graphs"][STEP]["outputs"] = m["graphs"][STEP]["outputs"][1:]


def _other_fingerprint(m: Json) -> None:
    m["fingerprint"] = "0" * 64


def _other_order_of_symbols(m: Json) -> None:
    m["symbols"] = m["symbols"][::-1]


def _other_start(m: Json) -> None:
    m["start_symbol"] = "a"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (_file_too_many, "lists the files ['../secret'"),
        (
            _file_too_few,
            "lists the files ['decode-constrained.onnx', 'decode-filtered.onnx', 'decode-full",
        ),
        (
            _graph_too_few,
            "describes the graphs ['decode-constrained.onnx', 'decode-filtered.onnx', 'decode",
        ),
        (_no_state, "lists no state"),
        (_state_of_another_input, "'d_0'"),
        (_state_of_another_output, "'d_n'"),
        (_state_of_another_width, "'h_0' of float32 [3, 'batch', 8]"),
        (_state_of_another_dtype, "'h_0' of float16"),
        (_state_without_batch, "'h_0' has shape [3, 'rows', 7]"),
        (_state_of_rank_two, "'h_0' has shape ['batch', 7]"),
        (_state_without_layers, "'h_0' has shape [0, 'batch', 7]"),
        (_state_of_symbolic_width, "'h_0' has shape [3, 'batch', 'hidden']"),
        (_one_symbol_more, "['time', 'batch', 12] for the vocabulary of 12"),
        (_symbol_twice, "['a']"),
        (_foreign_start, "start symbol 'z'"),
        (_no_logits, "its description says None"),
        (_other_fingerprint, f"fingerprint is {'0' * 64}, its contents give"),
        (_other_order_of_symbols, "its contents give"),
        (_other_start, "its contents give"),
    ],
)
def test_manifest_that_contradicts_itself_or_its_graphs_is_refused(
    bundle: Path, change: Callable[[Json], None], named: str
) -> None:
    manifest = read(bundle)
    change(manifest)
    write(bundle, manifest)
    refuse(bundle, named)
