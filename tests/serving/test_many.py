"""Many texts at once: each as if it were alone, in this process and through a server."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import repeat
from pathlib import Path
from typing import Any

import grpc
import pytest

from serving.engine.engine import Engine
from serving.engine.options import EngineOptions
from serving.engine.sequences.sequence import Sequence
from serving.local.aio import AsyncLocal
from serving.local.bulk import GATHERED
from serving.local.model import load
from serving.runtime.decoder import Decoder
from serving.sessions.capsule import CapsuleKeys
from serving.texts.many.many import SORTED, Many
from serving.texts.parse.generate import Parsed
from tests.serving.engine.harness import Reader, request
from tests.serving.running import ENDLESS, PATIENCE, RunningServer, serve, wait_for
from training.settings import Cell
from unroll.bundle.folder import Bundle
from unroll.client.aio import AsyncClient
from unroll.client.faces.face import Face
from unroll.errors import (
    ClosedError,
    DeadlineError,
    InputError,
    UnknownSymbolError,
    UnrollError,
)
from unroll.options import GenerateOptions, Origin, ScoreOptions
from unroll.terms import ITEMS_AT_MOST, Capsules
from unroll.v1 import text_generation_pb2 as pb
from unroll.v1.text_generation_pb2_grpc import TextGenerationServiceStub
from unroll.wire import from_rpc_error

PROMPTS = ["", "a", "bad cab", "x", "fed", "£" * 40] * 30
OPTIONS = GenerateOptions(seed=2**63 - 90, max_new_symbols=50, stop=("d", "ab"), log_probs=True)
LONG = GenerateOptions(max_new_symbols=ENDLESS)


@pytest.fixture(scope="module")
def server(tiny_bundles: dict[Cell, Path]) -> Iterator[RunningServer]:
    with serve(str(tiny_bundles["gru"]), slots=8) as running:
        yield running


@pytest.fixture(scope="module", params=["in this process", "client"])
def face(
    request: pytest.FixtureRequest, server: RunningServer, tiny_bundles: dict[Cell, Path]
) -> Iterator[Face]:
    made: Face = server.client() if request.param == "client" else load(tiny_bundles["gru"])
    with made:
        yield made


def alone(ask: Any, *arguments: object) -> object:
    """Return what a call gives, or the kind and words of its error."""
    try:
        return ask(*arguments)
    except UnrollError as error:
        return type(error), str(error)


def test_each_text_is_that_of_its_own_call_with_its_own_seed(face: Face) -> None:
    found = {
        answer.index: alone(lambda answer=answer: answer.result)
        for answer in face.generate_many(PROMPTS, OPTIONS)
    }
    assert sorted(found) == list(range(len(PROMPTS)))
    kinds = {type(each) for each in found.values()}
    assert len(kinds) == 2  # texts, and errors of prompts with an unknown symbol
    for index, prompt in enumerate(PROMPTS):
        seed = (2**63 - 90 + index) % 2**63
        options = GenerateOptions(
            seed=seed,
            max_new_symbols=50,
            stop=("d", "ab"),
            log_probs=True,
            capsules=Capsules.NEVER,
        )
        assert found[index] == alone(face.generate, prompt, options)


def test_each_score_is_that_of_its_own_call(face: Face) -> None:
    found = {
        answer.index: alone(lambda answer=answer: answer.result)
        for answer in face.score_many(PROMPTS)
    }
    assert found == {
        index: alone(face.score, prompt, ScoreOptions()) for index, prompt in enumerate(PROMPTS)
    }


def test_answers_come_in_order_if_asked(face: Face) -> None:
    options = GenerateOptions(seed=5, max_new_symbols=400, stop=("d",))
    in_order = list(face.generate_many(PROMPTS, options, in_order=True))
    assert [answer.index for answer in in_order] == list(range(len(PROMPTS)))
    as_they_end = list(face.generate_many(PROMPTS, options))
    texts = [
        {answer.index: answer.value for answer in answers} for answers in (in_order, as_they_end)
    ]
    assert texts[0] == texts[1]


def test_no_text_gives_no_answer(face: Face) -> None:
    assert list(face.generate_many([])) == []
    assert list(face.score_many([], in_order=True)) == []


def test_texts_continue_from_a_capsule_and_end_with_one_if_asked(face: Face) -> None:
    start = face.generate("abc", GenerateOptions(seed=1, max_new_symbols=3)).capsule
    options = GenerateOptions(seed=9, max_new_symbols=20, capsules=Capsules.FINAL)
    answers = list(face.generate_many(["", "d"], options, capsule=start, in_order=True))
    for index, answer in enumerate(answers):
        each = GenerateOptions(seed=9 + index, max_new_symbols=20)
        one = face.generate(["", "d"][index], each, capsule=start)
        assert answer.result.text == one.text
        follow = GenerateOptions(max_new_symbols=9)
        assert face.generate("", follow, capsule=answer.result.capsule).text == (
            face.generate("", follow, capsule=one.capsule).text
        )


def test_texts_are_read_no_further_ahead_than_there_is_room_for(face: Face) -> None:
    read: list[str] = []

    def prompts() -> Iterator[str]:
        for prompt in repeat("a", 10**6):
            read.append(prompt)
            yield prompt

    answers = face.generate_many(prompts(), GenerateOptions(max_new_symbols=5))
    for _ in range(100):
        next(answers)
    assert len(read) < 10_000
    answers.close()


def test_what_stops_all_texts_is_raised(face: Face) -> None:
    with pytest.raises(DeadlineError):
        list(face.generate_many([""] * 2000, LONG, timeout=0.3))
    with pytest.raises(InputError, match="sample_count"):
        list(face.generate_many(["a"], GenerateOptions(sample_count=2)))
    with pytest.raises(InputError, match=r"seed.*-1"):
        list(face.generate_many(["a"], GenerateOptions(seed=-1)))


def test_leaving_early_ends_what_runs(server: RunningServer) -> None:
    with server.client() as client:
        answers = client.generate_many(["x"] + [""] * 50, LONG)
        assert next(answers).index == 0
        wait_for(lambda: len(server.sequences()) > 1)
        answers.close()
        wait_for(lambda: not server.sequences())


def test_texts_to_score_begin_by_length_and_texts_to_write_as_they_came(
    tiny_bundles: dict[Cell, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["abc" * (7 * index % 50 + 1) for index in range(200)]
    lengths = [len(text) for text in texts]
    with serve(str(tiny_bundles["gru"]), slots=2) as server, server.client() as client:
        engine = server.server.models.get("").engine
        submit, begun = engine.submit, []

        def noting(*asked: Any) -> Sequence:
            begun.append(len(asked[0].prompt))
            return submit(*asked)

        monkeypatch.setattr(engine, "submit", noting)
        scores = list(client.score_many(texts, in_order=True))
        ahead = SORTED * 2
        assert begun[:ahead] == sorted(lengths[:ahead])
        assert sorted(begun) == sorted(lengths)
        assert [answer.result.usage.prompt_symbols for answer in scores] == lengths
        begun.clear()
        list(client.generate_many(texts, GenerateOptions(max_new_symbols=1)))
        assert begun == lengths


def test_many_answers_are_handed_over_together_and_the_last_at_once(
    tiny_bundles: dict[Cell, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.texts.many.many.GATHERING", 3600.0)
    texts = [(index, "") for index in range(3 * GATHERED // 2)]
    options = GenerateOptions(max_new_symbols=1)

    async def ask() -> list[int]:
        local = AsyncLocal(tiny_bundles["gru"], EngineOptions(), CapsuleKeys([b"k" * 32]))
        bulk = await local.generate_many(options, Origin(), None, in_order=False)
        await bulk.send(texts)
        counts = []
        while bulk.unanswered:
            counts.append(len(await bulk.receive()))
        await bulk.close()
        await local.close()
        return counts

    first, *others = asyncio.run(ask())
    assert first == GATHERED
    assert first + sum(others) == len(texts)


def test_an_asyncio_client_gives_the_same(server: RunningServer) -> None:
    async def ask() -> list[object]:
        async with AsyncClient(server.address) as client:
            options = GenerateOptions(seed=3, max_new_symbols=30)
            texts = client.generate_many(PROMPTS, options, in_order=True)
            return [alone(lambda answer=answer: answer.result) async for answer in texts]

    with server.client() as client:
        options = GenerateOptions(seed=3, max_new_symbols=30)
        expected = [
            alone(lambda answer=answer: answer.result)
            for answer in client.generate_many(PROMPTS, options, in_order=True)
        ]
    assert asyncio.run(ask()) == expected


@pytest.mark.parametrize("limit", [1, 3])
def test_running_texts_count_as_calls_of_the_caller(
    tiny_bundles: dict[Cell, Path], limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        serve(str(tiny_bundles["gru"]), max_calls_per_caller=limit) as server,
        server.client() as client,
    ):
        engine = server.server.models.get("").engine
        submit, running = engine.submit, []

        def counting(*asked: Any) -> Sequence:
            sequence = submit(*asked)
            running.append(len(engine.sequences()))
            return sequence

        monkeypatch.setattr(engine, "submit", counting)
        answers = list(client.generate_many([""] * 30, GenerateOptions(max_new_symbols=200)))
        assert len(answers) == 30
        assert not [answer.error for answer in answers if answer.error]
        assert max(running) == limit


def test_server_that_stops_says_so_behind_the_answers_it_has(
    tiny_bundles: dict[Cell, Path],
) -> None:
    with serve(str(tiny_bundles["gru"])) as server, server.client() as client:
        answers = client.generate_many(repeat("a"), GenerateOptions(max_new_symbols=400))
        next(answers)
        stopping = asyncio.run_coroutine_threadsafe(server.server.stop(PATIENCE), server.loop)
        lengths: list[int] = []
        with pytest.raises(ClosedError):
            lengths.extend(len(answer.result.text) for answer in answers)
        assert set(lengths) <= {400}
        stopping.result(2 * PATIENCE)


COMMON = pb.GenerateRequest()
WRONG = [
    ([], "common"),
    ([pb.GenerateManyRequest()], "common"),
    ([pb.GenerateManyRequest(common=pb.GenerateRequest(session="abc"))], "common.session"),
    ([pb.GenerateManyRequest(common=pb.GenerateRequest(prompt="abc"))], "common.prompt"),
    ([pb.GenerateManyRequest(common=COMMON)] * 2, "common"),
    (
        [pb.GenerateManyRequest(common=COMMON, items=[pb.GenerateItem()] * (ITEMS_AT_MOST + 1))],
        "items",
    ),
]


@pytest.mark.parametrize(("requests", "field"), WRONG)
def test_wrong_request_ends_the_call_and_names_the_field(
    server: RunningServer, requests: list[pb.GenerateManyRequest], field: str
) -> None:
    with grpc.insecure_channel(server.address) as channel:
        call = TextGenerationServiceStub(channel).GenerateMany(iter(requests))
        with pytest.raises(grpc.RpcError) as caught:
            list(call)
        error = from_rpc_error(caught.value, "server")
        assert isinstance(error, InputError)
        assert error.field == field


def test_item_with_a_wrong_key_or_prompt_fails_alone(server: RunningServer) -> None:
    items = [
        pb.GenerateItem(key=-1),
        pb.GenerateItem(key=7, prompt="x"),
        pb.GenerateItem(key=7, prompt="a"),
    ]
    request = pb.GenerateManyRequest(common=COMMON, in_order=True, items=items)
    with grpc.insecure_channel(server.address) as channel:
        responses = list(TextGenerationServiceStub(channel).GenerateMany(iter([request])))
    answers = [answer for response in responses for answer in response.answers]
    assert [(answer.key, answer.WhichOneof("outcome")) for answer in answers] == [
        (-1, "error"),
        (7, "error"),
        (7, "response"),
    ]
    invalid = grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert [answer.error.code for answer in answers[:2]] == [invalid, invalid]


def test_text_that_cannot_be_sent_fails_alone_and_in_its_place(server: RunningServer) -> None:
    long, halves = "a" * 3_000_000, "a\ud800"
    prompts = ["a", long, "fed", halves, "a" * 70_000, "", long]
    options = GenerateOptions(max_new_symbols=3)
    with server.client() as client:
        in_order = list(client.generate_many(prompts, options, in_order=True))
        as_they_end = list(client.generate_many(prompts, options))
        (score,) = client.score_many(["a" * 5_000_000])
        with pytest.raises(InputError) as caught:
            client.generate(halves, options)
    assert [answer.index for answer in in_order] == list(range(len(prompts)))
    assert sorted(answer.index for answer in as_they_end) == list(range(len(prompts)))
    for answers in (in_order, sorted(as_they_end, key=lambda answer: answer.index)):
        assert [answer.error is not None for answer in answers] == [False, True] * 2 + [
            True,  # longer than the server's prompts, but not than its messages
            False,
            True,
        ]
        assert str(answers[1].error).startswith("prompt: takes 3000024 bytes, this server takes ")
        assert str(answers[3].error) == str(caught.value)
        assert "70000 symbols, this server takes 65536" in str(answers[4].error)
    assert str(score.error).startswith("text: takes 5000024 bytes, this server takes ")


def test_error_of_an_item_is_the_error_of_its_own_call(server: RunningServer) -> None:
    with server.client() as client:
        (answer,) = client.generate_many(["x"])
        with pytest.raises(UnknownSymbolError) as caught:
            client.generate("x")
    assert type(answer.error) is UnknownSymbolError
    assert str(answer.error) == str(caught.value)
    assert answer.error.field == "prompt"


def test_a_deadline_holds_while_nothing_runs_and_the_queue_is_full(
    bundle: Bundle, decoder: Decoder
) -> None:
    engine = Engine(bundle, decoder, EngineOptions(slots=1, queue_limit=1))  # which never starts
    engine.submit(request(bundle.vocabulary, "", 1), Reader())
    late = request(bundle.vocabulary, "", 1, deadline=time.monotonic())

    async def ask() -> None:
        many = Many(engine, lambda key, text: Parsed(request=late, unknown=0), in_order=False)
        with closing(many):
            many.put([(0, "")])
            many.complete()
            async with asyncio.timeout(PATIENCE):
                await many.take()

    with pytest.raises(DeadlineError):
        asyncio.run(ask())
