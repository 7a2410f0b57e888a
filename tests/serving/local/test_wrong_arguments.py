"""Arguments of the wrong type beside the options are refused alike, before anything is sent."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import unroll
from serving.local.model import LocalModel, load
from tests.serving.local.test_wrong_types import NOBODY
from training.settings import Cell
from unroll.client.aio import AsyncClient
from unroll.client.client import Client
from unroll.client.faces.face import Face
from unroll.client.faces.session import Session
from unroll.errors import InputError, SettingsError

NOT_TEXTS = "must be an iterable of strings, got"
NOT_MARKS = "targets: must be a text of 1 and 0, or True or False for each symbol, got"
ASKED: list[tuple[Callable[[Any], Any], str]] = [
    (
        lambda face: list(face.generate_many("abc")),
        f"prompts: {NOT_TEXTS} the string 'abc'; write ['abc']",
    ),
    (lambda face: list(face.generate_many(None)), f"prompts: {NOT_TEXTS} None"),
    (
        lambda face: list(face.score_many("abc")),
        f"texts: {NOT_TEXTS} the string 'abc'; write ['abc']",
    ),
    (lambda face: list(face.score_many(5)), f"texts: {NOT_TEXTS} 5"),
    (lambda face: face.find_units("ab", 5), f"{NOT_MARKS} 5"),
    (lambda face: face.find_units("ab", ["1", "0"]), f"{NOT_MARKS} ['1', '0']"),
    (lambda face: list(face.stream("a", resume="yes")), "resume: must be True or False, got 'yes'"),
    (
        lambda face: face.score("a", timeout=-1),
        "timeout: must be 0 or more seconds, or None, got -1",
    ),
    (lambda face: face.get_session(None), "session: must be a string, got None"),
    (lambda face: face.get_session(5), "session: must be a string, got 5"),
    (lambda face: face.get_model(b"a"), "model: must be a string, got b'a'"),
]
OF_SESSIONS: list[tuple[Callable[[Any], Any], str]] = [
    (
        lambda session: session.fork("12"),
        "seeds: must be an iterable of whole numbers, got '12'",
    ),
    (lambda session: session.fork(5), "seeds: must be an iterable of whole numbers, got 5"),
    (lambda session: session.rewind("3"), "position: must be a whole number, got '3'"),
]
CLIENTS: list[tuple[dict[str, Any], str]] = [
    ({"target": 5}, "target: must be HOST:PORT, or several, got 5"),
    ({"target": [NOBODY, None]}, f"target: must be HOST:PORT, or several, got ['{NOBODY}', None]"),
    ({"security": "secret"}, "security: must be an unroll.Security, got str"),
    ({"security": unroll.Security(token=b"x")}, "token: must be a string, got bytes"),  # type: ignore[arg-type]
    ({"target": "127.0.0.1:99999"}, "target: is '127.0.0.1:99999'; its port must be 1 to 65535"),
    ({"target": "[::1]:0"}, "target: is '[::1]:0'; its port must be 1 to 65535"),
    (
        {"target": "http://127.0.0.1:8080"},
        "target: is 'http://127.0.0.1:8080'; give HOST:PORT of the gRPC port, without http:// or "
        "https://",
    ),
    ({"security": unroll.Security(tls="yes")}, "tls: must be True or False, got 'yes'"),  # type: ignore[arg-type]
    ({"security": unroll.Security(ca="nope")}, "ca: must be a pathlib.Path, got str"),  # type: ignore[arg-type]
    ({"retries": "3"}, "retries: must be a whole number, got '3'"),
    ({"retries": 0.5}, "retries: must be a whole number, got 0.5"),
]
LOADING: list[tuple[dict[str, Any], str]] = [
    ({"workers": "2"}, "workers = '2': must be a whole number, 1 or more"),
    ({"slots": 2.5}, "slots = 2.5: must be a whole number, 1 or more"),
    ({"threads": 0}, "threads = 0: must be a whole number, 1 or more"),
    ({"folder": 5}, "folder = 5: must be a path, as a string or os.PathLike"),
]


@pytest.fixture(scope="module")
def model(tiny_bundles: dict[Cell, Path]) -> Iterator[LocalModel]:
    with load(tiny_bundles["gru"]) as loaded:
        yield loaded


@pytest.fixture(scope="module", params=["client", "model"])
def face(request: pytest.FixtureRequest) -> Iterator[Face]:
    if request.param == "model":
        yield request.getfixturevalue("model")
        return
    with Client(NOBODY) as made:
        yield made


@pytest.mark.parametrize(("call", "told"), ASKED, ids=[told for _, told in ASKED])
def test_argument_of_a_wrong_type_is_told(
    face: Face, call: Callable[[Any], Any], told: str
) -> None:
    with pytest.raises(InputError) as caught:
        call(face)
    assert str(caught.value) == told


@pytest.mark.parametrize("timeout", ["5", float("nan"), [5]], ids=str)
@pytest.mark.parametrize(
    ("method", "given"),
    [
        ("generate", "a"),
        ("stream", "a"),
        ("score", "a"),
        ("inspect", "a"),
        ("generate_many", ["a"]),
        ("score_many", ["a"]),
    ],
)
def test_timeout_that_is_no_number_of_seconds_is_told(
    face: Face, method: str, given: Any, timeout: Any
) -> None:
    with pytest.raises(InputError, match="timeout: must be a number of seconds, or None, got"):
        list(getattr(face, method)(given, timeout=timeout))


@pytest.mark.parametrize(("call", "told"), OF_SESSIONS, ids=[told for _, told in OF_SESSIONS])
def test_argument_of_a_session_of_a_wrong_type_is_told(
    face: Face, call: Callable[[Any], Any], told: str
) -> None:
    info: Any = SimpleNamespace(session_id="any", position=0)
    with pytest.raises(InputError) as caught:
        call(Session(face._backend, info))
    assert str(caught.value) == told


@pytest.mark.parametrize(("given", "told"), CLIENTS, ids=[told for _, told in CLIENTS])
def test_client_of_a_wrong_argument_is_not_made(given: dict[str, Any], told: str) -> None:
    async def make() -> None:
        AsyncClient(**{"target": NOBODY} | given)

    for made in (lambda: Client(**{"target": NOBODY} | given), lambda: asyncio.run(make())):
        with pytest.raises(InputError) as caught:
            made()
        assert str(caught.value) == told


@pytest.mark.parametrize(("given", "told"), LOADING, ids=[told for _, told in LOADING])
def test_model_of_a_wrong_argument_is_not_loaded(given: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(**{"folder": "nowhere"} | given)
    assert str(caught.value) == told


def test_any_iterable_of_texts_and_marks_is_taken(model: LocalModel) -> None:
    texts = (text for text in ("ab", "ba"))
    assert [each.index for each in model.score_many(texts, in_order=True)] == [0, 1]
    units = model.find_units("abc", (mark for mark in (True, False, True)))
    assert units == model.find_units("abc", "101")
