"""GetStatus tells what the server is doing at this moment."""

import asyncio
from pathlib import Path

import grpc

from serving.access.tokens import NewToken, issue
from tests.serving.running import ENDLESS, PATIENCE, RunningServer, serve, wait_for
from tests.unroll.client.stub import ask, connected, refused
from training.settings import Cell
from unroll.options import GenerateOptions
from unroll.v1 import text_generation_pb2 as pb
from unroll.v1.text_generation_pb2_grpc import TextGenerationServiceStub


def status(server: RunningServer) -> pb.GetStatusResponse:
    with connected(server.address) as stub:
        answer: pb.GetStatusResponse = stub.calls.GetStatus(pb.GetStatusRequest(), timeout=PATIENCE)
    return answer


def work(answer: pb.GetStatusResponse) -> list[tuple[str, int, int]]:
    """What runs and waits, by model."""
    return [(each.name, each.running, each.queued) for each in answer.models]


def test_streams_that_run_and_wait_are_told_by_model(tiny_bundles: dict[Cell, Path]) -> None:
    models = (f"small={tiny_bundles['gru']}", f"other={tiny_bundles['lstm']}")
    with serve(*models, slots=2) as server, connected(server.address) as stub:
        assert work(status(server)) == [("small", 0, 0), ("other", 0, 0)]
        streams = [stub.calls.StreamGenerate(ask("abc", ENDLESS)) for _ in range(5)]
        wait_for(lambda: work(status(server)) == [("small", 2, 3), ("other", 0, 0)])
        for stream in streams:
            stream.cancel()
        wait_for(lambda: work(status(server)) == [("small", 0, 0), ("other", 0, 0)])
        small, other = status(server).models
        described = stub.calls.ListModels(pb.ListModelsRequest()).models
    assert [small.fingerprint, other.fingerprint] == [each.fingerprint for each in described]
    assert (small.slots, small.workers) == (2, 1)


def test_symbols_are_counted_since_the_start(tiny_bundles: dict[Cell, Path]) -> None:
    with serve(str(tiny_bundles["gru"])) as server, server.client() as client:
        before = status(server)
        client.generate("abc", GenerateOptions(max_new_symbols=50))
        client.score("abcdefgh")
        after = status(server)
    assert [(each.symbols_read, each.symbols_written) for each in before.models] == [(0, 0)]
    assert [(each.symbols_read, each.symbols_written) for each in after.models] == [(3 + 8, 50)]
    assert before.start_time == after.start_time


def test_sessions_that_answer_and_those_in_memory_are_told(tiny_bundles: dict[Cell, Path]) -> None:
    with serve(str(tiny_bundles["gru"])) as server, connected(server.address) as stub:
        session = stub.start().id
        stub.start()
        idle = status(server)
        stream = stub.calls.StreamGenerate(ask("abc", ENDLESS, session=session))
        wait_for(lambda: status(server).sessions_in_use == 1)
        stream.cancel()
        wait_for(lambda: status(server).sessions_in_use == 0)
    assert (idle.sessions_in_use, idle.sessions_in_memory) == (0, 2)


def test_replaced_model_comes_last(tiny_bundles: dict[Cell, Path], tmp_path: Path) -> None:
    folder = tmp_path / "served"
    folder.symlink_to(tiny_bundles["gru"])
    with serve(f"it={folder}") as server:
        (old,) = status(server).models
        folder.unlink()
        folder.symlink_to(tiny_bundles["lstm"])
        asyncio.run_coroutine_threadsafe(server.server.reload(), server.loop).result(PATIENCE)
        new, replaced = status(server).models
    assert [new.name, replaced.name] == ["it", "it"]
    assert replaced.fingerprint == old.fingerprint != new.fingerprint


def test_token_is_needed_where_others_need_one(
    tiny_bundles: dict[Cell, Path], tmp_path: Path
) -> None:
    file = tmp_path / "tokens"
    token = issue(NewToken(name="anna", file=file))
    metadata = (("authorization", f"Bearer {token}"),)
    with (
        serve(str(tiny_bundles["gru"]), tokens=file) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        get = TextGenerationServiceStub(channel).GetStatus
        with refused("UNAUTHENTICATED"):
            get(pb.GetStatusRequest(), timeout=PATIENCE)
        assert get(pb.GetStatusRequest(), timeout=PATIENCE, metadata=metadata).models
