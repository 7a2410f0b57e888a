"""Sessions on a real server: they stand where their last answer left them, whatever happens."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from serving.sessions.cached_store import CachedStore
from serving.sessions.disk.store import DiskStore
from serving.sessions.memory_store import MemoryStore
from serving.sessions.session import Session
from tests.serving.running import ENDLESS, PATIENCE, RunningServer, serve, wait_for
from tests.unroll.client.stub import SEED, Stub, ask, connected, refused
from training.settings import Cell
from unroll.terms import SEED_LIMIT
from unroll.v1 import text_generation_pb2 as pb

NOT_FOUND, ABORTED = grpc.StatusCode.NOT_FOUND, grpc.StatusCode.ABORTED


@pytest.fixture(scope="module")
def stub(shared_server: RunningServer) -> Iterator[Stub]:
    with connected(shared_server.address) as made:
        yield made


def stamp(session: pb.Session) -> bytes:
    """All of a session but when it will expire."""
    copy = pb.Session()
    copy.CopyFrom(session)
    copy.ClearField("expire_time")
    return copy.SerializeToString(deterministic=True)


def test_session_describes_itself(stub: Stub) -> None:
    sampling = pb.SamplingParams(temperature=0.5, top_k=3, top_p=0.75, min_p=0.25)
    session = stub.start(model="lstm", seed=5, sampling=sampling)
    assert (session.model, session.seed, session.position) == ("lstm", 5, 0)
    assert list(session.marks) == [0]
    assert session.sampling == sampling
    assert len(session.id) == 22
    lasts = session.expire_time.ToDatetime() - session.create_time.ToDatetime()
    assert lasts.total_seconds() == pytest.approx(86400)
    assert stamp(stub.get(session.id)) == stamp(session)
    assert stub.start().id != session.id


def test_seed_is_chosen_where_none_is_given(stub: Stub) -> None:
    one, other = (stub.calls.StartSession(pb.StartSessionRequest()).session for _ in range(2))
    assert one.seed != other.seed
    assert 0 <= one.seed < SEED_LIMIT


@pytest.mark.parametrize("model", ["small", "lstm"])
@pytest.mark.parametrize("delivery", [pb.CAPSULE_DELIVERY_FINAL, pb.CAPSULE_DELIVERY_NEVER])
def test_text_in_several_requests_is_the_text_of_one(
    stub: Stub, model: str, delivery: pb.CapsuleDelivery
) -> None:
    sampling = pb.SamplingParams(temperature=0.75, top_k=6)
    whole = stub.generate("abc £", 90, model=model, sampling=sampling, log_probs=True)
    session = stub.start(model=model, sampling=sampling).id
    more = {"session": session, "log_probs": True, "capsules": delivery}
    stub.generate("ab", 0, **more)
    first = stub.generate("c £", 20, **more)
    streamed = stub.stream("", 30, **more)
    last = stub.generate("", 40, **more)
    pieces: list[pb.GenerateResponse | pb.StreamGenerateResponse] = [first, *streamed, last]
    assert "".join(piece.text for piece in pieces) == whole.text
    assert [p for piece in pieces for p in piece.log_probs] == list(whole.log_probs)
    found = stub.get(session)
    assert found.position == last.completion.position == 95
    assert list(found.marks) == [2, 25, 55, 95]
    assert bool(last.completion.capsule) is (delivery == pb.CAPSULE_DELIVERY_FINAL)


def test_session_ends_exactly_after_a_stop_string(stub: Stub) -> None:
    free = stub.generate("abc", 80).text
    stop = free[30:33]
    end = free.index(stop) + 3
    session = stub.start().id
    assert stub.generate("abc", 80, session=session, stop=[stop]).text == free[: end - 3]
    assert stub.get(session).position == 3 + end
    assert stub.generate("", 80 - end, session=session).text == free[end:]


def test_other_seed_and_sampling_stay_in_force(stub: Stub) -> None:
    session = stub.start().id
    stub.generate("abc", 5, session=session, seed=99, sampling=pb.SamplingParams(top_k=2))
    found = stub.get(session)
    assert (found.seed, found.sampling.top_k, found.sampling.temperature) == (99, 2, 1)


def test_wrong_position_is_refused_and_the_real_one_told(stub: Stub) -> None:
    session = stub.start().id
    stub.generate("abc", 7, session=session, expected_position=0)
    for call in (stub.generate, stub.stream):
        for expected in (0, 9, 11, -1):
            with refused("SESSION_POSITION") as refusal:
                call("b", 7, session=session, expected_position=expected)
            assert (refusal.code, refusal.metadata["position"]) == (ABORTED, "10")
    assert stub.get(session).position == 10


def test_position_is_checked_without_a_session_too(stub: Stub) -> None:
    stub.generate("abc", 5, expected_position=0)
    with refused("SESSION_POSITION") as refusal:
        stub.generate("abc", 5, expected_position=3)
    assert refusal.metadata["position"] == "0"
    capsule = stub.generate("abc", 5).completion.capsule
    stub.generate("", 5, capsule=capsule, expected_position=8)
    with refused("SESSION_POSITION") as refusal:
        stub.generate("", 5, capsule=capsule, expected_position=7)
    assert refusal.metadata["position"] == "8"


def test_last_request_again_gets_the_same_answer_and_advances_nothing(stub: Stub) -> None:
    session = stub.start().id
    stub.generate("abc", 10, session=session)
    again = {"session": session, "expected_position": 13, "log_probs": True}
    first = stub.generate("d", 20, **again)
    before = stub.get(session)
    assert before.position == 34
    for _ in range(3):
        assert stub.generate("d", 20, **again) == first
    assert stamp(stub.get(session)) == stamp(before)
    with refused("SESSION_POSITION"):
        stub.generate("d", 21, **again)
    streamed = stub.stream("", 9, session=session, expected_position=34)
    repeated = stub.stream("", 9, session=session, expected_position=34)
    assert "".join(p.text for p in streamed) == "".join(p.text for p in repeated)
    assert streamed[-1].capsule == repeated[-1].capsule
    with refused("SESSION_POSITION"):
        stub.generate("d", 20, **again)
    stub.rewind(session, 34)
    with refused("SESSION_POSITION"):
        stub.generate("d", 20, **again)


def test_two_requests_at_once_are_refused(stub: Stub, shared_server: RunningServer) -> None:
    session = stub.start().id
    running = stub.calls.StreamGenerate(ask("abc", ENDLESS, session=session), timeout=PATIENCE)
    next(running)
    for call in (
        lambda: stub.generate("a", 5, session=session),
        lambda: stub.stream("a", 5, session=session),
        lambda: stub.fork(session, 1),
        lambda: stub.rewind(session, 0),
        lambda: stub.end(session),
    ):
        with refused("SESSION_BUSY") as refusal:
            call()
        assert refusal.code is ABORTED
    assert stub.get(session).position == 0
    assert len(stub.score("abc", session=session).log_probs) == 3
    running.cancel()
    wait_for(lambda: not shared_server.server.sessions.in_use)
    assert stub.get(session).position == 0
    assert stub.generate("abc", 9, session=session).text == stub.generate("abc", 9).text


def test_failed_request_leaves_the_session_where_it_was(
    stub: Stub, shared_server: RunningServer
) -> None:
    session = stub.start().id
    stub.generate("abc", 5, session=session)
    before = stub.get(session)
    with pytest.raises(grpc.RpcError) as caught:
        stub.calls.Generate(ask("", ENDLESS, session=session), timeout=0.2)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    with refused("UNKNOWN_SYMBOL"):
        stub.generate("한", 5, session=session)
    wait_for(lambda: not shared_server.server.sessions.in_use)
    after = stub.get(session)
    assert after.expire_time.ToDatetime() >= before.expire_time.ToDatetime()
    after.expire_time.CopyFrom(before.expire_time)
    assert after == before


def test_fork_goes_its_own_way(stub: Stub) -> None:
    session = stub.start().id
    stub.generate("abc", 20, session=session)
    same, other = stub.fork(session, SEED, 99)
    assert (same.position, list(same.marks), same.seed, other.seed) == (23, [23], SEED, 99)
    texts = [stub.generate("", 40, session=s).text for s in (same.id, other.id, session)]
    assert texts[0] == texts[2] == stub.generate("abc", 60).text[20:]
    assert texts[1] != texts[0]
    stub.end(session)
    assert stub.get(same.id).position == 63


def test_rewind_goes_back_to_any_mark(stub: Stub) -> None:
    session = stub.start().id
    texts = [stub.generate("ab", 8, session=session).text for _ in range(5)]
    assert list(stub.get(session).marks) == [20, 30, 40, 50]
    assert list(stub.rewind(session, 30).marks) == [20, 30]
    assert [stub.generate("ab", 8, session=session).text for _ in range(2)] == texts[3:]
    for position in (31, 10, -1):
        with refused("INVALID_FIELD") as refusal:
            stub.rewind(session, position)
        assert refusal.field == "position"
    assert stub.get(session).position == 50


def test_score_goes_on_from_a_session_without_advancing_it(stub: Stub) -> None:
    session = stub.start().id
    written = stub.generate("abc", 20, session=session).text
    expected = stub.score("abc" + written + "fed").log_probs[-3:]
    for _ in range(2):
        assert stub.score("fed", session=session).log_probs == expected
    assert stub.get(session).position == 23


def test_ended_and_unknown_sessions_are_told_apart(stub: Stub) -> None:
    session = stub.start().id
    stub.end(session)
    for name, reason in ((session, "SESSION_ENDED"), ("x" * 22, "SESSION_UNKNOWN")):
        for call in (
            lambda name: stub.generate("a", 5, session=name),
            lambda name: stub.stream("a", 5, session=name),
            lambda name: stub.score("a", session=name),
            lambda name: stub.fork(name, 1),
            lambda name: stub.rewind(name, 0),
            stub.get,
            stub.end,
        ):
            with refused(reason) as refusal:
                call(name)
            assert refusal.code is NOT_FOUND


def test_expired_and_evicted_sessions_are_told_apart(tiny_bundles: dict[Cell, Path]) -> None:
    settings = {"sessions_in_memory": 2, "session_idle_seconds": 50.0}
    with serve(str(tiny_bundles["gru"]), **settings) as running, connected(running.address) as stub:
        evicted, expired, kept = (stub.start().id for _ in range(3))
        sessions, store = running.server.sessions, running.server._store
        assert isinstance(store, MemoryStore)
        now = store.now
        store.now = lambda: now() + 40
        stub.generate("a", 5, session=kept)
        store.now = lambda: now() + 80
        with refused("SESSION_EVICTED"):
            stub.get(evicted)
        with refused("SESSION_EXPIRED"):
            stub.get(expired)
        assert stub.get(kept).position == 6
        store.now = lambda: now() + 100
        swept = asyncio.run_coroutine_threadsafe(sessions.expire(), running.loop)
        assert swept.result(PATIENCE) == 2
        with refused("SESSION_EXPIRED"):
            stub.get(kept)


def test_sessions_that_never_expire_say_so(tiny_bundles: dict[Cell, Path]) -> None:
    gru = str(tiny_bundles["gru"])
    with serve(gru, session_idle_seconds=0.0) as running, connected(running.address) as stub:
        assert not stub.start().HasField("expire_time")


def test_sessions_outlive_the_server(tiny_bundles: dict[Cell, Path], tmp_path: Path) -> None:
    gru, state = str(tiny_bundles["gru"]), tmp_path / "state"
    with serve(gru, state_dir=state) as running, connected(running.address) as stub:
        whole = stub.generate("abc", 60).text
        session, ended = stub.start().id, stub.start().id
        stub.end(ended)
        asked = {"session": session, "expected_position": 0}
        first = stub.generate("abc", 20, **asked)
        before = stub.get(session)
    with (
        serve(gru, state_dir=state, sessions_in_memory=1) as running,
        connected(running.address) as stub,
    ):
        others = [stub.start().id for _ in range(5)]
        assert stamp(stub.get(session)) == stamp(before)
        again = stub.generate("abc", 20, **asked)
        assert (again.text, again.completion.position) == (first.text, 23)
        assert stub.generate("", 40, session=session).text == whole[20:]
        assert [stub.get(other).position for other in others] == [0] * 5
        with refused("SESSION_ENDED"):
            stub.get(ended)
    with serve(str(tiny_bundles["lstm"]), state_dir=state) as running:
        with connected(running.address) as stub, refused("UNKNOWN_MODEL") as refusal:
            stub.get(session)
        assert refusal.field == "session"


def test_other_callers_session_is_unknown(stub: Stub, shared_server: RunningServer) -> None:

    session = stub.start().id

    async def start() -> Session:
        sessions = shared_server.server.sessions
        found = await sessions.get(session, bytes(16))
        return await sessions.start(b"somebody else...", found.fingerprint, found.current)

    other = asyncio.run_coroutine_threadsafe(start(), shared_server.loop).result(PATIENCE)
    with refused("SESSION_UNKNOWN"):
        stub.generate("a", 5, session=other.session_id)


def test_many_sessions_side_by_side_keep_their_texts(stub: Stub) -> None:
    wholes = [stub.generate("abc", 40, seed=seed).text for seed in range(8)]
    texts: dict[int, str] = {}

    def write(seed: int) -> None:
        session = stub.start(seed=seed).id
        parts = [stub.generate("abc" if not i else "", 10, session=session).text for i in range(4)]
        texts[seed] = "".join(parts)

    threads = [threading.Thread(target=write, args=[seed]) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert [texts[seed] for seed in range(8)] == wholes


@pytest.mark.parametrize(
    ("field", "asked"),
    [
        ("sample_count", {"sample_count": 2}),
        ("sample_count", {"sample_count": 0}),
        ("capsules", {"capsules": 9}),
        ("model", {"model": "lstm"}),
        ("max_new_symbols", {"max_new_symbols": 0}),
        ("seed", {"seed": -1}),
        ("sampling.top_p", {"sampling": pb.SamplingParams(top_p=2)}),
    ],
)
def test_field_out_of_its_range_in_a_session_is_named(
    stub: Stub, field: str, asked: dict[str, object]
) -> None:
    session = stub.start().id
    request = pb.GenerateRequest(**{"session": session, "max_new_symbols": 5, **asked})  # type: ignore[arg-type]
    with refused("INVALID_FIELD") as refusal:
        stub.calls.Generate(request, timeout=PATIENCE)
    assert (refusal.code, refusal.field) == (grpc.StatusCode.INVALID_ARGUMENT, field)
    assert stub.get(session).position == 0


def test_fields_of_the_calls_about_sessions_are_named(stub: Stub) -> None:
    session = stub.start().id
    for seeds, field in (((), "seeds"), (range(65), "seeds"), ((1, -1), "seeds[1]")):
        with refused("INVALID_FIELD") as refusal:
            stub.fork(session, *seeds)
        assert refusal.field == field
    assert len(stub.fork(session, *range(64))) == 64
    with refused("INVALID_FIELD") as refusal:
        stub.start(seed=-1)
    assert refusal.field == "seed"
    with refused("INVALID_FIELD") as refusal:
        stub.start(sampling=pb.SamplingParams(min_p=2))
    assert refusal.field == "sampling.min_p"
    with refused("UNKNOWN_MODEL"):
        stub.start(model="none")


def test_full_disk_is_told_and_costs_no_session(
    tiny_bundles: dict[Cell, Path], tmp_path: Path
) -> None:
    with (
        serve(str(tiny_bundles["gru"]), state_dir=tmp_path) as server,
        connected(server.address) as stub,
    ):
        session = stub.start().id
        first = stub.generate("abc", 5, session=session)
        store = server.server._store
        assert isinstance(store, CachedStore)
        disk = store.store
        assert isinstance(disk, DiskStore)

        def limit(pages: str) -> None:
            writes = disk._writes
            writes._thread.submit(
                lambda: writes._db.execute(f"PRAGMA max_page_count = {pages}").fetchall()
            ).result()

        limit("1")  # as many as there are, since it cannot be fewer
        with refused("STORE_FAILED") as refusal:
            for _ in range(200):
                stub.start()
        assert refusal.code is grpc.StatusCode.UNAVAILABLE
        assert stub.generate("abc", 5).text
        assert stub.get(session).position == first.completion.position
        limit("100000")
        assert stub.generate("abc", 5, session=session).completion.position == 16
