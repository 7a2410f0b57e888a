"""A model in this process and a server give the same, bit for bit, errors included."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from export.graph.arithmetic import Precision
from serving.local.model import LocalModel, load
from tests.export.lower import compiled
from tests.serving.running import serve
from tests.shared import SharedFolders
from training.model.model import CELLS
from training.settings import Cell
from unroll.client.client import Client
from unroll.client.faces.face import Face
from unroll.errors import InputError, UnrollError
from unroll.options import (
    FindUnitsOptions,
    GenerateOptions,
    InspectOptions,
    ScoreOptions,
    SessionOptions,
)
from unroll.results import Piece, Score, SessionInfo, Unit
from unroll.terms import Capsules, UnitKind, UnknownSymbols

SKIP, REPLACE = UnknownSymbols.SKIP, UnknownSymbols.REPLACE
ASKED = [
    ("abc", GenerateOptions(max_new_symbols=90, seed=1, log_probs=True)),
    ("", GenerateOptions(max_new_symbols=70, seed=2, temperature=0.7)),
    ("fed", GenerateOptions(max_new_symbols=70, seed=2**63 - 1, temperature=0.0)),
    ("cab" * 40, GenerateOptions(seed=4, top_k=4, top_p=0.9, min_p=0.01, log_probs=True)),
    ("a", GenerateOptions(seed=5, stop=("g", "ab"), capsules=Capsules.NEVER)),
    ("a", GenerateOptions(seed=5, stop=("gg£a",), capsules=Capsules.EVERY_CHUNK)),
    ("head", GenerateOptions(max_new_symbols=40, seed=2**63 - 2, sample_count=4)),
    ("dead", GenerateOptions(max_new_symbols=0, seed=3)),
    ("bad", GenerateOptions(max_new_symbols=80, seed=9, top_log_probs=3, stop=("hgf", "aa"))),
    ("f", GenerateOptions(max_new_symbols=20, seed=7, top_p=1 + 1e-9)),  # 1 in 32 bits
    ("xaxb", GenerateOptions(max_new_symbols=9, seed=6, unknown_symbols=SKIP)),
    (
        "xaxb",
        GenerateOptions(max_new_symbols=9, seed=6, unknown_symbols=REPLACE, replacement_symbol="c"),
    ),
]


@dataclass(frozen=True)
class Both:
    """One bundle in two places."""

    model: LocalModel
    client: Client


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("keys") / "keys"
    file.write_text(secrets.token_hex(32), encoding="ascii")
    return file


@pytest.fixture(
    scope="module",
    params=[
        *((cell, "fp32") for cell in CELLS),
        *(pytest.param((cell, "int8"), marks=pytest.mark.slow) for cell in CELLS),
    ],
    ids="-".join,
)
def both(
    request: pytest.FixtureRequest,
    shared: SharedFolders,
    tiny_bundles: dict[Cell, Path],
    keys: Path,
) -> Iterator[Both]:
    cell, precision = request.param
    folder = tiny_bundles[cell]
    if precision == "int8":
        folder = shared.folder(
            f"local-{cell}-int8", lambda made: compiled(cell, made / "tiny", Precision.INT8)
        )
        folder /= "tiny"
    with ExitStack() as stack:
        server = stack.enter_context(serve(str(folder), capsule_keys=keys))
        client = stack.enter_context(server.client())
        yield Both(stack.enter_context(load(folder, capsule_keys=keys, workers=2)), client)


def test_whole_texts_are_the_same(both: Both) -> None:
    for prompt, options in ASKED:
        theirs = both.client.generate(prompt, options)
        assert both.model.generate(prompt, options) == theirs
        assert len(theirs.text) == (options.max_new_symbols or 0) or options.stop or len(prompt) > 9


def test_streamed_texts_are_the_same(both: Both) -> None:
    def ends(pieces: list[Piece]) -> list[object]:
        indices = sorted({piece.sample_index for piece in pieces})
        parts = [[piece for piece in pieces if piece.sample_index == i] for i in indices]
        return [
            (
                "".join(piece.text for piece in part),
                [value for piece in part for value in piece.log_probs],
                [each for piece in part for each in piece.alternatives],
                part[-1].completion,
                part[-1].capsule,
            )
            for part in parts
        ]

    for prompt, options in ASKED:
        ours = list(both.model.stream(prompt, options))
        assert ends(ours) == ends(list(both.client.stream(prompt, options)))
        assert all(piece.text or piece.completion for piece in ours)


def test_scores_and_descriptions_are_the_same(both: Both) -> None:
    skipping = ScoreOptions(unknown_symbols=SKIP)
    for text, options in [
        ("abc", ScoreOptions()),
        ("fed£\n" * 300, ScoreOptions()),
        ("fed£", ScoreOptions(top_log_probs=4)),
        ("xa", skipping),
    ]:
        score = both.model.score(text, options)
        assert isinstance(score, Score)
        assert score == both.client.score(text, options)
    assert both.model.get_model() == both.client.get_model()
    assert both.model.list_models() == both.client.list_models()


def test_inspections_are_the_same(both: Both) -> None:
    begun = both.client.generate("abc", GenerateOptions(max_new_symbols=5))
    kinds = list(UnitKind) if both.model.get_model().cell == "lstm" else [UnitKind.H]
    units = tuple(Unit(layer=2, index=4, kind=kind) for kind in kinds)
    options = InspectOptions(units=units, top_log_probs=11)
    for text, capsule in (("fed£\n" * 90, b""), ("dead", begun.capsule), ("", begun.capsule)):
        ours = both.model.inspect(text, options, capsule=capsule)
        assert ours == both.client.inspect(text, options, capsule=capsule)
    text = "fed£\nab" * 70
    holds = [symbol in "ab" for symbol in text]
    found = both.model.find_units(text, holds, FindUnitsOptions(unit_count=21))
    assert found == both.client.find_units(text, holds, FindUnitsOptions(unit_count=21))
    for wrong in (Unit(index=7), Unit(index=0, layer=3), Unit(index=2**31)):
        asked = InspectOptions(units=(wrong,))
        assert _error(lambda: both.model.inspect("a", asked))[0] is InputError  # noqa: B023
        assert _error(lambda: both.client.inspect("a", asked))[0] is InputError  # noqa: B023


def test_a_text_moves_between_the_two(both: Both) -> None:
    options = GenerateOptions(max_new_symbols=60, seed=8)
    whole = both.client.generate("abc", replace(options, max_new_symbols=180))
    first = both.model.generate("abc", options)
    second = both.client.generate("", options, capsule=first.capsule)
    third = both.model.generate("", options, capsule=second.capsule)
    assert first.text + second.text + third.text == whole.text
    assert third.completion.position == whole.completion.position
    ours = both.model.score("dead", capsule=second.capsule)
    assert ours == both.client.score("dead", capsule=second.capsule)


def test_sessions_go_the_same_way(both: Both) -> None:
    def way(face: Face) -> list[object]:
        session = face.start_session(SessionOptions(seed=21, temperature=0.7, top_k=9))
        asked = GenerateOptions(max_new_symbols=30)
        told: list[object] = [session.generate("abc", asked), session.score("dead")]
        told += [piece.completion for piece in session.stream("", asked)][-1:]
        told += [fork.generate("", asked) for fork in session.fork([5, 6])]
        told.append(session.generate("", asked))
        told.append(_known(session.rewind(33)))
        told.append(session.generate("", asked))
        again = face.generate("", asked, session=session.session_id, expected_position=33)
        told += [again, _known(face.get_session(session.session_id).describe())]
        session.end()
        told.append(_error(session.describe))
        return told

    def _known(info: SessionInfo) -> SessionInfo:
        return replace(info, session_id="", create_time=info.create_time.min, expire_time=None)

    assert way(both.model) == way(both.client)


def _error(call: Callable[[], object]) -> tuple[object, ...]:
    with pytest.raises(UnrollError) as caught:
        call()
    return (
        type(caught.value),
        getattr(caught.value, "field", ""),
        getattr(caught.value, "actual", 0),
    )


HUGE = GenerateOptions(max_new_symbols=65536)

WRONG: dict[str, Callable[[Face], Any]] = {
    "unknown symbol": lambda face: face.generate("한"),
    "unknown model": lambda face: face.generate("a", GenerateOptions(model="other")),
    "no model of that name": lambda face: face.get_model("other"),
    "temperature": lambda face: face.generate("a", GenerateOptions(temperature=-1)),
    "temperature beyond float32": lambda face: face.generate(
        "a", GenerateOptions(temperature=1e99)
    ),
    "top_k": lambda face: face.generate("a", GenerateOptions(top_k=-1)),
    "top_k beyond 32 bits": lambda face: face.generate("a", GenerateOptions(top_k=2**31)),
    "top_p": lambda face: face.generate("a", GenerateOptions(top_p=float("nan"))),
    "seed": lambda face: face.generate("a", GenerateOptions(seed=-1)),
    "seed beyond 64 bits": lambda face: face.generate("a", GenerateOptions(seed=2**63)),
    "seed as a text": lambda face: face.generate("a", GenerateOptions(seed="7")),  # type: ignore[arg-type]
    "seed as a fraction": lambda face: face.generate("a", GenerateOptions(seed=7.5)),  # type: ignore[arg-type]
    "prompt that is none": lambda face: face.generate(7),  # type: ignore[arg-type]
    "no symbols": lambda face: face.generate("", GenerateOptions(max_new_symbols=0)),
    "samples": lambda face: face.generate("a", GenerateOptions(sample_count=65)),
    "stops": lambda face: face.generate("a", GenerateOptions(stop=("a",) * 9)),
    "empty stop": lambda face: face.generate("a", GenerateOptions(stop=("b", ""))),
    "stop that is none": lambda face: face.generate("a", GenerateOptions(stop=("b", 7))),  # type: ignore[arg-type]
    "replacement": lambda face: face.generate("a", GenerateOptions(replacement_symbol="b")),
    "replacement of a score": lambda face: face.score("a", ScoreOptions(replacement_symbol="b")),
    "nothing to score": lambda face: face.score(""),
    "capsule": lambda face: face.generate("", capsule=b"UNRL" + bytes(300)),
    "short capsule": lambda face: face.score("a", capsule=b"x"),
    "session": lambda face: face.generate("", session="nobody's"),
    "capsule and session": lambda face: face.generate("", session="x", capsule=b"x"),
    "position": lambda face: face.generate("a", expected_position=3),
    "position beyond 64 bits": lambda face: face.generate("a", expected_position=2**63),
    "timeout": lambda face: face.generate(
        "a", GenerateOptions(max_new_symbols=65536), timeout=0.01
    ),
    "streamed": lambda face: list(face.stream("한")),
    "samples in a session": lambda face: face.start_session().generate(
        "a", GenerateOptions(sample_count=2)
    ),
    "session's sampling": lambda face: face.start_session(SessionOptions(min_p=2)),
    "session's capsule": lambda face: face.start_session(capsule=b"x"),
    "no session": lambda face: face.get_session("x" * 22),
    "rewind": lambda face: face.start_session().rewind(9),
    "forks": lambda face: face.start_session().fork([]),
    "fork's seed": lambda face: face.start_session().fork([1, -1]),
    "seed of a fork beyond 64 bits": lambda face: face.start_session().fork([2**63]),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("both", [("gru", "fp32")], ids=["gru"], indirect=True)
def test_errors_are_the_same(both: Both, wrong: Callable[[Face], Any]) -> None:
    assert _error(lambda: wrong(both.model)) == _error(lambda: wrong(both.client))
