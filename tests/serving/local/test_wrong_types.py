"""Values of the wrong type are refused alike by clients, which send nothing, and by models here."""

import asyncio
import re
from collections.abc import Callable, Iterator
from contextlib import aclosing
from dataclasses import fields
from math import nan
from pathlib import Path
from typing import Any

import pytest

import unroll
from serving.local.model import LocalModel, load
from training.settings import Cell
from unroll.client.aio import AsyncClient
from unroll.client.client import Client
from unroll.client.faces.face import Face
from unroll.errors import InputError
from unroll.results import Unit
from unroll.terms import UnknownSymbols

NOBODY = "127.0.0.1:1"  # a client that refuses needs no server
WRONG: dict[str, list[Any]] = {
    "model": [5, b"fog"],
    "max_new_symbols": [2.5, "7"],
    "stop": ["Nacht", "", 5, {"a": 1}],
    "seed": ["7", 7.0, True],
    "temperature": ["hot", 10**400, 1j, True],
    "top_k": ["3", 3.5],
    "top_p": ["0.9", [0.9]],
    "min_p": ["0.1", ()],
    "logit_bias": [[("a", 1)], "a"],
    "pattern": [5, b"a*"],
    "json_schema": [{"type": "object"}],
    "log_probs": ["yes", 1],
    "top_log_probs": ["3", 2.5, True],
    "capsules": ["final", "Final", 2, UnknownSymbols.SKIP],
    "sample_count": ["2", 1.5],
    "unknown_symbols": ["skip", 1],
    "replacement_symbol": [5],
    "units": ["h", 5],
    "unit_count": ["5", 2.5],
}
PARTS: list[tuple[str, Any, str]] = [
    ("stop", ("b", 7), "stop[1]"),
    ("logit_bias", {"a": 1.0, "b": "much"}, "logit_bias"),
    ("logit_bias", {5: 1.0}, "logit_bias"),
    ("units", (5,), "units[0]"),
    ("units", (Unit(index=0), Unit(index="1")), "units[1].index"),  # type: ignore[arg-type]
    ("units", [Unit(index=0, kind="h")], "units[0].kind"),  # type: ignore[arg-type]
]
METHODS: dict[str, tuple[type[Any], Callable[[Face, Any], Any]]] = {
    "generate": (unroll.GenerateOptions, lambda face, given: face.generate("a", given)),
    "stream": (unroll.GenerateOptions, lambda face, given: list(face.stream("a", given))),
    "generate_many": (
        unroll.GenerateOptions,
        lambda face, given: list(face.generate_many(["a"], given)),
    ),
    "score": (unroll.ScoreOptions, lambda face, given: face.score("a", given)),
    "score_many": (unroll.ScoreOptions, lambda face, given: list(face.score_many(["a"], given))),
    "inspect": (unroll.InspectOptions, lambda face, given: face.inspect("a", given)),
    "find_units": (unroll.FindUnitsOptions, lambda face, given: face.find_units("ab", "10", given)),
    "start_session": (unroll.SessionOptions, lambda face, given: face.start_session(given)),
}
CASES = [
    pytest.param(method, name, value, id=f"{method}-{name}-{place}")
    for method, (options, _) in METHODS.items()
    for name in (each.name for each in fields(options))
    for place, value in enumerate(WRONG[name])
]


@pytest.fixture(scope="module")
def model(tiny_bundles: dict[Cell, Path]) -> Iterator[LocalModel]:
    with load(tiny_bundles["gru"]) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with Client(NOBODY) as made:
        yield made


def refusal(face: Face, method: str, given: dict[str, Any]) -> InputError:
    options, call = METHODS[method]
    with pytest.raises(InputError) as caught:
        call(face, options(**given))
    return caught.value


@pytest.mark.parametrize(("method", "name", "value"), CASES)
def test_value_of_a_wrong_type_is_told_with_its_field(
    model: LocalModel, client: Client, method: str, name: str, value: Any
) -> None:
    told = refusal(client, method, {name: value})
    assert told.field == name
    got = re.escape(repr(value)[:60])
    assert re.match(rf"must be .*, got (the string )?{got}", told.problem)
    assert str(refusal(model, method, {name: value})) == str(told)


@pytest.mark.parametrize(
    ("method", "given", "told"),
    [
        ("generate", {"temperature": -1}, "temperature: must be 0 or 0.001 to 1000, got -1"),
        ("generate", {"temperature": nan}, "temperature: must be 0 or 0.001 to 1000, got nan"),
        ("start_session", {"top_p": 1.5}, "top_p: must be above 0 and at most 1, got 1.5"),
        ("stream", {"min_p": -0.5}, "min_p: must be 0 to 1, got -0.5"),
        ("generate_many", {"top_k": -1}, "top_k: must be at least 0, got -1"),
        ("generate", {"seed": -1}, "seed: must be at least 0, got -1"),
        ("generate", {"max_new_symbols": -1}, "max_new_symbols: must be at least 0, got -1"),
        ("stream", {"sample_count": 65}, "sample_count: must be 1 to 64, got 65"),
        ("score", {"top_log_probs": 21}, "top_log_probs: must be 0 to 20, got 21"),
        ("find_units", {"unit_count": 0}, "unit_count: must be 1 to 64, got 0"),
        ("generate", {"stop": ("a", "")}, "stop[1]: must have 1 to 256 symbols, has 0"),
    ],
    ids=str,
)
def test_number_out_of_its_range_is_refused_before_it_is_sent(
    model: LocalModel, client: Client, method: str, given: dict[str, Any], told: str
) -> None:
    for face in (client, model):
        assert str(refusal(face, method, given)) == told


@pytest.mark.parametrize(("name", "value", "field"), PARTS)
def test_part_of_a_wrong_type_is_told_with_its_place(
    model: LocalModel, client: Client, name: str, value: Any, field: str
) -> None:
    method = "inspect" if name == "units" else "generate"
    told = refusal(client, method, {name: value})
    assert told.field == field
    assert str(refusal(model, method, {name: value})) == str(told)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            {"stop": "Nacht"},
            "stop: must be a tuple or list of strings, got the string 'Nacht'; write ('Nacht',)",
        ),
        (
            {"capsules": "final"},
            "capsules: must be unroll.Capsules.NEVER, unroll.Capsules.FINAL or "
            "unroll.Capsules.EVERY_CHUNK, got 'final'",
        ),
        ({"seed": "7"}, "seed: must be a whole number, got '7'"),
        ({"seed": 2**63}, "seed: must be 0 to 2^63 - 1, got 9223372036854775808"),
    ],
    ids=["stop", "capsules", "seed", "large seed"],
)
def test_refusal_tells_what_is_allowed(client: Client, given: dict[str, Any], told: str) -> None:
    assert str(refusal(client, "generate", given)) == told


@pytest.mark.parametrize(
    "given", [{"capsules": "final"}, {"stop": "Nacht"}, {"sample_count": "2"}], ids=str
)
def test_asyncio_client_and_resumed_stream_refuse_alike(
    client: Client, given: dict[str, Any]
) -> None:
    options, told = unroll.GenerateOptions(**given), str(refusal(client, "generate", given))

    async def ask() -> None:
        async with AsyncClient(NOBODY) as face:
            with pytest.raises(InputError) as caught:
                await face.generate("a", options)
            assert str(caught.value) == told
            with pytest.raises(InputError) as caught:
                async with aclosing(face.stream("a", options, resume=True)) as pieces:
                    await anext(pieces)
            assert str(caught.value) == told

    asyncio.run(ask())


@pytest.mark.parametrize("method", METHODS)
def test_options_of_another_method_are_refused_with_the_ones_that_are_wanted(
    model: LocalModel, client: Client, method: str
) -> None:
    wanted, call = METHODS[method]
    others = {options for options, _ in METHODS.values()} - {wanted}
    for given in (None, {"seed": 7}, wanted, *(other() for other in others)):
        told = f"options: {method} takes unroll.{wanted.__name__}, got {repr(given)[:64]}"
        for face in (client, model):
            with pytest.raises(InputError) as caught:
                call(face, given)
            assert str(caught.value).rstrip("…") == told


OF_SESSIONS: dict[str, tuple[Any, str]] = {
    "generate": (unroll.SessionOptions(), "GenerateOptions"),
    "stream": (unroll.ScoreOptions(), "GenerateOptions"),
    "score": (unroll.GenerateOptions(), "ScoreOptions"),
    "inspect": (unroll.ScoreOptions(), "InspectOptions"),
}


@pytest.mark.parametrize("method", OF_SESSIONS)
def test_session_refuses_options_of_another_method_and_stays_where_it_is(
    model: LocalModel, method: str
) -> None:
    given, wanted = OF_SESSIONS[method]
    session = model.start_session()
    with pytest.raises(InputError, match=rf"options: {method} takes unroll\.{wanted}, got"):
        list(getattr(session, method)("a", given))
    assert session.describe().position == 0


def test_asyncio_client_refuses_options_of_another_method(client: Client) -> None:
    async def ask() -> None:
        async with AsyncClient(NOBODY) as face:
            for call in (
                lambda: face.score("a", unroll.GenerateOptions()),  # type: ignore[arg-type]
                lambda: anext(face.score_many(["a"], unroll.GenerateOptions())),  # type: ignore[arg-type]
            ):
                with pytest.raises(InputError, match=r"takes unroll\.ScoreOptions, got Generate"):
                    await call()

    asyncio.run(ask())


@pytest.mark.parametrize("method", METHODS)
def test_none_is_the_default(model: LocalModel, method: str) -> None:
    options, call = METHODS[method]
    call(model, options(**{each.name: None for each in fields(options)}))


@pytest.mark.parametrize("wrong", [5, None, b"a"])
@pytest.mark.parametrize("method", ["generate", "score"])
def test_text_that_is_none_is_refused_alike(
    model: LocalModel, client: Client, method: str, wrong: Any
) -> None:
    def told(face: Face) -> str:
        with pytest.raises(InputError, match=f"must be a string, got {wrong!r}") as caught:
            getattr(face, method)(wrong)
        return str(caught.value)

    assert told(model) == told(client)


@pytest.mark.parametrize("method", ["generate_many", "score_many"])
def test_text_among_many_that_is_none_is_told_alone(model: LocalModel, method: str) -> None:
    answers = list(getattr(model, method)(["a", 5], in_order=True))
    assert answers[0].error is None
    assert "must be a string, got 5" in str(answers[1].error)
