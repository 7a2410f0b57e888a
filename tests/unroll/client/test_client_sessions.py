"""Sessions, capsules, samples and streams that outlive their server, in both clients."""

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, aclosing
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from serving.sessions.capsule import KEYS_VARIABLE
from tests.serving.running import ENDLESS, PATIENCE, RunningServer, serve, wait_for
from training.settings import Cell
from unroll.client.aio import AsyncClient
from unroll.client.client import Client
from unroll.client.remote.resume import ATTEMPTS_AT_MOST
from unroll.errors import (
    CapsuleError,
    DeadlineError,
    InputError,
    PositionError,
    SessionEndedError,
    UnavailableError,
    UnknownSymbolError,
)
from unroll.options import GenerateOptions, SessionOptions
from unroll.results import Generation, Piece
from unroll.terms import Capsules, FinishReason, UnknownSymbols

NOBODY = "127.0.0.1:1"  # a port that no user may listen on
ASKED = GenerateOptions(max_new_symbols=50, log_probs=True)
LONG = GenerateOptions(max_new_symbols=20_000, seed=4, log_probs=True)  # a connection holds less
SEEDED = SessionOptions(seed=21, temperature=0.75, top_k=9)


def use(target: str | list[str], do: Callable[[AsyncClient], Awaitable[None]]) -> None:
    async def main() -> None:
        async with AsyncClient(target) as client:
            await do(client)

    asyncio.run(main())


def joined(pieces: list[Piece]) -> Generation:
    assert [piece for piece in pieces if piece.completion is not None] == pieces[-1:]
    assert pieces[-1].completion is not None
    return Generation(
        text="".join([piece.text for piece in pieces]),
        log_probs=tuple(value for piece in pieces for value in piece.log_probs),
        completion=pieces[-1].completion,
        capsule=pieces[-1].capsule,
        alternatives=tuple(each for piece in pieces for each in piece.alternatives),
    )


def test_session_is_told_as_it_was_asked_for(client: Client) -> None:
    info = client.start_session(SEEDED).describe()
    assert (info.seed, info.temperature, info.top_k, info.top_p, info.min_p) == (21, 0.75, 9, 1, 0)
    assert (info.position, info.marks, info.model) == (0, (0,), "small")
    assert info.expire_time is not None
    assert info.expire_time > info.create_time


def test_session_shows_its_id_and_position(client: Client) -> None:
    session = client.start_session(SEEDED)
    session.generate("abc", ASKED)
    assert repr(session) == f"<Session {session.session_id} at position 53>"


def test_both_clients_use_sessions_alike(client: Client, shared_server: RunningServer) -> None:
    session = client.start_session(SEEDED)
    whole = session.generate("abc", ASKED)
    (fork,) = session.fork([7])
    forked, after = fork.generate("", ASKED), session.generate("de", ASKED)
    score = session.score("abc")

    async def compare(other: AsyncClient) -> None:
        theirs = await other.start_session(SEEDED)
        assert joined([piece async for piece in theirs.stream("abc", ASKED)]) == whole
        assert theirs.position == 53
        (their_fork,) = await theirs.fork([7])
        assert await their_fork.generate("", ASKED) == forked
        assert await theirs.generate("de", ASKED) == after
        assert await theirs.score("abc") == score
        assert (await theirs.describe()).marks == (0, 53, 105)
        assert (await theirs.rewind(53)).position == theirs.position == 53
        assert await (await other.get_session(theirs.session_id)).generate("de", ASKED) == after
        await theirs.end()
        with pytest.raises(SessionEndedError):
            await theirs.describe()

    use(shared_server.address, compare)


def test_rewound_session_writes_the_same_again(client: Client) -> None:
    session = client.start_session(SEEDED)
    session.generate("abc", ASKED)
    after = session.generate("de", ASKED)
    assert session.rewind(53).marks == (0, 53)
    assert joined(list(session.stream("de", ASKED))) == after
    session.end()
    with pytest.raises(SessionEndedError):
        session.generate("a", ASKED)


def test_repeated_request_does_not_advance_a_session_twice(client: Client) -> None:
    session = client.start_session(SEEDED)
    session.generate("abc", ASKED)
    answer = session.generate("de", ASKED)
    session.position = 53  # as if the answer had been lost on its way
    assert session.generate("de", ASKED) == answer
    assert session.position == session.describe().position == 105


def test_session_moved_by_another_is_not_advanced_unawares(client: Client) -> None:
    session = client.start_session(SEEDED)
    client.get_session(session.session_id).generate("abc", ASKED)
    with pytest.raises(PositionError) as caught:
        session.generate("de", ASKED)
    assert caught.value.actual == 53
    assert session.describe().position == session.position == 53
    assert session.generate("de", ASKED).completion.position == 105


def test_abandoned_stream_leaves_its_session(client: Client, shared_server: RunningServer) -> None:
    session = client.start_session(SEEDED)
    for piece in session.stream("abc", LONG):
        assert piece.text
        break
    wait_for(lambda: len(shared_server.sequences()) == 0)
    assert session.position == session.describe().position == 0


def test_capsules_come_as_asked_for(client: Client) -> None:
    def given(capsules: Capsules | None) -> list[bool]:
        options = GenerateOptions(max_new_symbols=2000, capsules=capsules)
        return [bool(piece.capsule) for piece in client.stream("abc", options)]

    every, final = given(Capsules.EVERY_CHUNK), given(Capsules.FINAL)
    assert len(every) > 1
    assert all(every)
    assert final[-1]
    assert not any(final[:-1])
    assert given(None)[-1]
    assert not any(given(Capsules.NEVER))
    never = GenerateOptions(max_new_symbols=5, capsules=Capsules.NEVER)
    assert client.generate("abc", never).capsule == b""


def test_capsule_goes_on_where_its_answer_ended(client: Client) -> None:
    whole = client.generate("abc", GenerateOptions(max_new_symbols=100, seed=3))
    first = client.generate("abc", GenerateOptions(max_new_symbols=50, seed=3))
    rest = client.generate("", ASKED, capsule=first.capsule, expected_position=53)
    assert first.text + rest.text == whole.text
    assert client.start_session(capsule=first.capsule).generate("", ASKED).text == rest.text
    with pytest.raises(PositionError):
        client.generate("", ASKED, capsule=first.capsule, expected_position=52)
    with pytest.raises(CapsuleError):
        client.score("abc", capsule=first.capsule[:-1])


def test_session_and_capsule_at_once_are_refused(client: Client) -> None:
    with pytest.raises(InputError, match="leave one out") as caught:
        client.stream("abc", session="a", capsule=b"b")
    assert caught.value.field == "session"


def test_samples_are_those_of_their_seeds(client: Client) -> None:
    options = GenerateOptions(max_new_symbols=300, seed=30, sample_count=3)
    first = client.generate("abc", options)
    samples = [first.text, *(sample.text for sample in first.further_samples)]
    streamed = ["", "", ""]
    for piece in client.stream("abc", options):
        streamed[piece.sample_index] += piece.text
    alone = [
        client.generate("abc", GenerateOptions(max_new_symbols=300, seed=30 + index)).text
        for index in range(3)
    ]
    assert samples == streamed == alone


@pytest.fixture
def pair(
    tiny_bundles: dict[Cell, Path], monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[RunningServer, RunningServer]]:
    """Two servers of one bundle and key; the first has no patience with its streams."""
    monkeypatch.setenv(KEYS_VARIABLE, secrets.token_hex(32))
    bundle = tiny_bundles["gru"]
    with ExitStack() as stack:
        second = stack.enter_context(serve(f"second={bundle}"))
        first = serve(f"first={bundle}", grace_seconds=0.05).__enter__()
        yield first, second
        if not first.loop.is_closed():  # the test failed before it came to that
            first.__exit__()


RESUMED = {
    "plain": ("abc", LONG),
    "skipped": ("aéÜb", replace(LONG, unknown_symbols=UnknownSymbols.SKIP)),
    "replaced": (
        "aéÜb",
        replace(LONG, unknown_symbols=UnknownSymbols.REPLACE, replacement_symbol="c"),
    ),
    "with alternatives": ("abc", replace(LONG, top_log_probs=3)),
    "of a model by its name": ("abc", replace(LONG, model="first")),
}


def cut(
    pair: tuple[RunningServer, RunningServer], prompt: str, options: GenerateOptions
) -> Generation:
    """Stream a text of which the first server sends only the beginning."""
    first, second = pair
    pieces: list[Piece] = []
    with Client([first.address, second.address]) as client:
        for piece in client.stream(prompt, options, resume=True, timeout=6 * PATIENCE):
            if not pieces:
                first.__exit__()
            pieces.append(piece)
    return joined(pieces)


@pytest.mark.slow
@pytest.mark.parametrize("case", RESUMED)
def test_cut_stream_goes_on_as_if_it_had_not_been(
    pair: tuple[RunningServer, RunningServer], case: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "unroll.client.remote.resume")
    prompt, options = RESUMED[case]
    streamed = cut(pair, prompt, options)
    assert "stream broke" in caplog.text, "the stream must be cut, else this tests nothing"
    with pair[1].client() as other:
        assert streamed == other.generate(prompt, replace(options, model=""))


@pytest.mark.slow
def test_cut_stream_ends_at_its_stop_string(pair: tuple[RunningServer, RunningServer]) -> None:
    with pair[1].client() as other:
        text = other.generate("abc", LONG).text
        options = replace(LONG, stop=(text[-40:], "a" * 40, " " * 40))
        whole = other.generate("abc", options)
    assert whole.completion.finish_reason is FinishReason.STOP
    assert cut(pair, "abc", options) == whole


@pytest.mark.slow
def test_both_clients_resume_alike(pair: tuple[RunningServer, RunningServer]) -> None:
    first, second = pair

    async def resume(client: AsyncClient) -> None:
        pieces: list[Piece] = []
        async with aclosing(client.stream("abc", LONG, resume=True)) as stream:
            async for piece in stream:
                if not pieces:
                    await asyncio.to_thread(first.__exit__)
                pieces.append(piece)
        async with AsyncClient(second.address) as other:
            assert joined(pieces) == await other.generate("abc", LONG)

    use([first.address, second.address], resume)


def test_stream_that_never_began_is_asked_for_again_whole(shared_server: RunningServer) -> None:
    with Client([NOBODY, shared_server.address]) as client, shared_server.client() as other:
        streamed = joined(list(client.stream("abc", ASKED, resume=True)))
        seed = streamed.completion.seed
        assert streamed == other.generate("abc", replace(ASKED, seed=seed))


def test_resumed_stream_goes_on_from_a_capsule(shared_server: RunningServer) -> None:
    with Client([NOBODY, shared_server.address]) as client, shared_server.client() as other:
        capsule = other.generate("abc", ASKED).capsule
        streamed = joined(list(client.stream("d", ASKED, capsule=capsule, resume=True)))
        assert streamed == other.generate("d", ASKED, capsule=capsule)


def test_what_was_asked_wrongly_is_not_asked_again(
    shared_server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "unroll.client.remote.resume")
    with Client([shared_server.address, NOBODY]) as client:
        with pytest.raises(UnknownSymbolError):
            list(client.stream("한", resume=True))
        for field, given in (("session", "a"), ("capsule", b"forged")):
            with pytest.raises(InputError) as caught:
                list(client.stream("", resume=True, **{field: given}))  # type: ignore[arg-type]
            assert caught.value.field == field
        with pytest.raises(InputError, match="sample_count"):
            client.stream("", GenerateOptions(sample_count=2), resume=True)
    assert not caplog.records


def test_attempts_to_resume_are_bounded() -> None:
    with Client([NOBODY] * ATTEMPTS_AT_MOST) as client, pytest.raises(UnavailableError):
        list(client.stream("abc", resume=True))


def test_attempts_to_resume_end_at_the_timeout() -> None:
    started = time.monotonic()
    with Client(NOBODY) as client, pytest.raises((UnavailableError, DeadlineError)):
        list(client.stream("abc", resume=True, timeout=0.3))
    assert 0.2 < time.monotonic() - started < PATIENCE


def test_timeout_of_a_resumable_stream_is_that_of_the_whole(shared_server: RunningServer) -> None:
    options = GenerateOptions(max_new_symbols=ENDLESS)
    with Client([NOBODY, shared_server.address]) as client, pytest.raises(DeadlineError):
        list(client.stream("abc", options, resume=True, timeout=0.3))


def test_targets_are_checked() -> None:
    with pytest.raises(InputError, match="at least one server"):
        Client([])
    with grpc.insecure_channel(NOBODY) as channel, pytest.raises(InputError, match="2 are given"):
        Client([NOBODY, NOBODY], channel=channel)
