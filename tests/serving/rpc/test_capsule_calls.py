"""Capsules on a real server: the client holds the state, and any call goes on from it."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from serving.sessions.capsule import CapsuleCodec, CapsuleKeys, owner_tag
from tests.serving.running import RunningServer, serve
from tests.unroll.client.stub import SEED, Stub, ask, connected, refused
from training.settings import Cell
from unroll.v1 import text_generation_pb2 as pb

EVERY, NEVER = pb.CAPSULE_DELIVERY_EVERY_CHUNK, pb.CAPSULE_DELIVERY_NEVER
INVALID = grpc.StatusCode.INVALID_ARGUMENT


@pytest.fixture(scope="module")
def stub(shared_server: RunningServer) -> Iterator[Stub]:
    with connected(shared_server.address) as made:
        yield made


@pytest.mark.parametrize("model", ["small", "lstm"])
def test_every_call_goes_on_from_a_capsule(stub: Stub, model: str) -> None:
    sampling = pb.SamplingParams(temperature=0.75, top_k=5)
    whole = stub.generate("abc", 60, model=model, sampling=sampling, log_probs=True)
    first = stub.generate("abc", 20, model=model, sampling=sampling)
    capsule, rest = first.completion.capsule, whole.text[20:]
    assert first.text + rest == whole.text
    again = stub.generate("", 40, capsule=capsule, log_probs=True)
    assert (again.text, list(again.log_probs)) == (rest, list(whole.log_probs[20:]))
    assert again.completion.capsule == whole.completion.capsule
    streamed = stub.stream("", 40, capsule=capsule)
    assert "".join(piece.text for piece in streamed) == rest
    assert streamed[-1].capsule == whole.completion.capsule
    assert list(stub.score(rest, capsule=capsule).log_probs) == list(whole.log_probs[20:])
    session = stub.calls.StartSession(pb.StartSessionRequest(capsule=capsule)).session
    assert (session.model, session.position, session.seed) == (model, 23, SEED)
    assert session.sampling.top_k == 5
    assert stub.generate("", 40, session=session.id).text == rest
    assert stub.generate("", 40, capsule=capsule).text == rest


def test_capsule_comes_on_the_messages_that_were_asked_for(stub: Stub) -> None:
    default = stub.stream("abc", 200)
    assert [bool(piece.capsule) for piece in default] == [False] * (len(default) - 1) + [True]
    assert not default[-1].completion.capsule
    assert all(piece.capsule for piece in stub.stream("abc", 200, capsules=EVERY))
    assert not any(piece.capsule for piece in stub.stream("abc", 200, capsules=NEVER))
    assert stub.generate("abc", 9).completion.capsule
    assert stub.generate("abc", 9, capsules=EVERY).completion.capsule
    assert not stub.generate("abc", 9, capsules=NEVER).completion.capsule


def test_stream_cut_anywhere_goes_on_from_its_last_capsule(stub: Stub) -> None:
    free = stub.generate("abc", 200).text
    stop = [free[150:154], free[60:63] + "£a", free[20:22] + "£b"]
    whole = stub.generate("abc", 200, stop=stop)
    pieces = stub.stream("abc", 200, stop=stop, capsules=EVERY)
    text = ""
    for piece in pieces[:-1]:
        text += piece.text
        rest = stub.generate("", 200 - len(text), capsule=piece.capsule, stop=stop)
        assert text + rest.text == whole.text
        assert rest.completion.position == whole.completion.position
        assert rest.completion.capsule == whole.completion.capsule


def test_text_can_be_forked_by_a_seed_and_read_on(stub: Stub) -> None:
    capsule = stub.generate("abc", 10).completion.capsule
    texts = {stub.generate("", 30, capsule=capsule, seed=seed).text for seed in range(5)}
    assert len(texts) == 5
    read = stub.generate("fed", 0, capsule=capsule)
    assert (read.text, read.completion.usage.generated_symbol_count) == ("", 0)
    assert read.completion.position == 16
    written = stub.generate("fed", 20, capsule=capsule)
    assert stub.generate("", 20, capsule=read.completion.capsule).text == written.text


def test_samples_are_what_single_requests_give(stub: Stub) -> None:
    capsule = stub.generate("abc", 10).completion.capsule
    for origin in ({"seed": 5}, {"capsule": capsule, "seed": 5}):
        singles = [
            stub.generate("fed", 30, log_probs=True, **{**origin, "seed": 5 + i}) for i in range(4)
        ]
        first = stub.generate("fed", 30, log_probs=True, sample_count=4, **origin)
        further = list(first.further_samples)
        first.ClearField("further_samples")
        assert [first, *further] == singles
        assert len({single.text for single in singles}) == 4
        texts, ends = [""] * 4, {}
        for piece in stub.stream("fed", 30, sample_count=4, **origin):
            texts[piece.sample_index] += piece.text
            if piece.HasField("completion"):
                assert piece.sample_index not in ends
                ends[piece.sample_index] = piece.completion.seed
        assert texts == [single.text for single in singles]
        assert ends == {i: 5 + i for i in range(4)}


def test_samples_wrap_at_the_last_seed_and_stop_on_their_own(stub: Stub) -> None:
    last = 2**63 - 1
    pair = stub.generate("abc", 50, seed=last, sample_count=2, stop=["a", "b"])
    seeds = [pair.completion.seed, pair.further_samples[0].completion.seed]
    assert seeds == [last, 0]
    assert pair.further_samples[0].text == stub.generate("abc", 50, seed=0, stop=["a", "b"]).text


def altered(capsule: bytes) -> bytes:
    return capsule[:-1] + bytes([capsule[-1] ^ 1])


def test_capsules_that_are_not_ours_are_refused_by_every_call(
    stub: Stub, shared_server: RunningServer
) -> None:
    good = stub.generate("abc", 5).completion.capsule
    model = shared_server.server.models.get("small")
    keys = shared_server.server._keys.keys
    fingerprint = model.bundle.manifest.fingerprint
    ours = CapsuleCodec(keys, fingerprint, model.engine.layout)
    contents = ours.open(good, owner_tag(""))
    foreign = CapsuleCodec(keys, "ab" * 32, model.engine.layout)
    forger = CapsuleCodec(CapsuleKeys([bytes(32)]), fingerprint, model.engine.layout)
    cases = [
        (altered(good), "CAPSULE_INVALID", INVALID),
        (good[:-1], "CAPSULE_INVALID", INVALID),
        (good + b"\0", "CAPSULE_INVALID", INVALID),
        (b"x", "CAPSULE_INVALID", INVALID),
        (bytes(2**16), "CAPSULE_INVALID", INVALID),
        (forger.seal(contents, owner_tag("")), "CAPSULE_INVALID", INVALID),
        (
            foreign.seal(contents, owner_tag("")),
            "CAPSULE_FOREIGN",
            grpc.StatusCode.FAILED_PRECONDITION,
        ),
        (
            ours.seal(contents, owner_tag("anna")),
            "CAPSULE_OWNER",
            grpc.StatusCode.PERMISSION_DENIED,
        ),
    ]
    for capsule, reason, code in cases:
        for call in (
            lambda capsule: stub.generate("", 5, capsule=capsule),
            lambda capsule: stub.stream("", 5, capsule=capsule),
            lambda capsule: stub.score("a", capsule=capsule),
            lambda capsule: stub.start(capsule=capsule),
        ):
            with refused(reason) as refusal:
                call(capsule)
            assert (refusal.code, refusal.field) == (code, "capsule")


def test_other_model_by_name_is_foreign(stub: Stub) -> None:
    capsule = stub.generate("abc", 5, model="lstm").completion.capsule
    assert stub.generate("", 5, capsule=capsule, model="lstm").text
    for call in (stub.generate, stub.stream):
        with refused("CAPSULE_FOREIGN"):
            call("", 5, capsule=capsule, model="small")
    with refused("UNKNOWN_MODEL"):
        stub.generate("", 5, capsule=capsule, model="none")


def test_empty_capsule_is_refused_where_one_was_meant(stub: Stub) -> None:
    for call in (stub.generate, stub.stream):
        with refused("CAPSULE_INVALID"):
            call("a", 5, capsule=b"")
    with refused("CAPSULE_INVALID"):
        stub.score("a", capsule=b"")


@pytest.fixture
def terse(tiny_bundles: dict[Cell, Path]) -> Iterator[Stub]:
    """Calls of a server whose chunks have a symbol or two."""
    often = {"run_ms": 0.1, "messages_per_second": 1e9}
    with serve(str(tiny_bundles["gru"]), **often) as server, connected(server.address) as made:
        yield made


def test_fields_that_contradict_held_symbols_are_named(terse: Stub) -> None:
    stub, free = terse, terse.generate("", 60).text
    held = next(
        piece.capsule
        for begin in range(1, 40)
        for piece in stub.stream("", begin + 30, stop=[free[begin] + "\n\n£££\n"], capsules=EVERY)
        if int.from_bytes(piece.capsule[100:104], "little")
    )
    for field, call in (
        ("prompt", lambda: stub.generate("a", 9, capsule=held)),
        ("max_new_symbols", lambda: stub.generate("", 1, capsule=held)),
        ("max_new_symbols", lambda: stub.generate("", 0, capsule=held)),
        ("text", lambda: stub.score("a", capsule=held)),
    ):
        with refused("INVALID_FIELD") as refusal:
            call()
        assert refusal.field == field
    session = stub.start(capsule=held)
    sent = session.position - int.from_bytes(held[100:104], "little")
    rest = stub.generate("", 60 - sent, session=session.id)
    assert rest.text == free[sent:]


@pytest.mark.parametrize(
    ("field", "asked"),
    [
        ("sample_count", {"sample_count": 0}),
        ("sample_count", {"sample_count": 65}),
        ("sample_count", {"sample_count": -1}),
        ("sample_count", {"sample_count": 2, "max_new_symbols": 0}),
        ("capsules", {"capsules": 4}),
        ("max_new_symbols", {"prompt": "", "max_new_symbols": 0}),
    ],
)
def test_field_out_of_its_range_is_named(stub: Stub, field: str, asked: dict[str, object]) -> None:
    request = ask("abc", 5)
    request.MergeFrom(pb.GenerateRequest(**asked))  # type: ignore[arg-type]
    if asked.get("prompt") == "":
        request.prompt = ""
    for call in (
        lambda: stub.calls.Generate(request),
        lambda: list(stub.calls.StreamGenerate(request)),
    ):
        with refused("INVALID_FIELD") as refusal:
            call()
        assert (refusal.code, refusal.field) == (INVALID, field)


def test_capsule_goes_to_another_server_with_the_key_and_rotates(
    tiny_bundles: dict[Cell, Path], tmp_path: Path
) -> None:
    old, new = bytes(range(32)).hex(), bytes(range(32, 64)).hex()
    files = {"old": [old], "both": [new, old], "new": [new]}
    for name, keys in files.items():
        (tmp_path / name).write_text("\n".join(keys), encoding="ascii")
    whole, capsule = "", b""
    for name in files:
        with (
            serve(str(tiny_bundles["gru"]), capsule_keys=tmp_path / name) as running,
            connected(running.address) as stub,
        ):
            origin = {"capsule": capsule} if capsule else {}
            before = capsule
            answer = stub.generate("" if capsule else "abc", 20, **origin)
            whole, capsule = whole + answer.text, answer.completion.capsule
    assert before
    with (
        serve(str(tiny_bundles["gru"]), capsule_keys=tmp_path / "old") as running,
        connected(running.address) as stub,
    ):
        assert stub.generate("abc", 60).text == whole
        with refused("CAPSULE_INVALID"):
            stub.generate("", 20, capsule=capsule)
