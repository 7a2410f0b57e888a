"""A model in this process: many threads, early ends, and what is left behind."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path

import pytest

from serving.engine.workers import inline
from serving.engine.workers.crew import SWITCH_SECONDS
from serving.local.aio import AsyncLocal
from serving.local.call import LIMITS
from serving.local.model import load, load_async
from serving.local.threads import Local
from tests.serving.running import PATIENCE, wait_for
from training.settings import Cell
from unroll.client.faces.face import Face
from unroll.errors import BundleError, CapsuleError, ClosedError, InputError, SettingsError
from unroll.options import GenerateOptions, Origin
from unroll.results import Piece
from unroll.terms import FinishReason

ENDLESS = GenerateOptions(max_new_symbols=2**31 - 1, seed=3)


@pytest.fixture(scope="module")
def folder(tiny_bundles: dict[Cell, Path]) -> Path:
    return tiny_bundles["gru"]


@pytest.fixture
def model(folder: Path) -> Iterator[Face]:
    with load(folder) as loaded:
        yield loaded


def running(model: Face) -> int:
    """Count the texts that a model's engine runs."""
    backend = model._backend
    assert isinstance(backend, Local)
    return len(backend.aio.model.engine.sequences())


def model_threads() -> set[threading.Thread]:
    """Find the threads of all models of this process, among them those of a shared server."""
    return {t for t in threading.enumerate() if t.name.startswith(("engine-", "local"))}


def options(seed: int) -> GenerateOptions:
    return GenerateOptions(max_new_symbols=300, seed=seed)


def test_short_texts_one_after_another_leave_turns_to_other_tasks(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inline, "INLINE_SECONDS", 1e3)  # all run on the event loop's thread

    async def turns() -> int:
        count = 0

        async def others() -> None:
            nonlocal count
            while True:
                await asyncio.sleep(0)
                count += 1

        async with load_async(folder) as model:
            task = asyncio.create_task(others())
            for _ in range(20):
                await model.generate("", GenerateOptions(max_new_symbols=1))
                await model.score("a")
            counted = count
            task.cancel()
        return counted

    assert asyncio.run(turns()) >= 39  # the first one only begins


def test_stream_that_is_to_be_resumed_is_refused(model: Face) -> None:
    with pytest.raises(InputError, match="resume: is for streams from servers"):
        model.stream("abc", resume=True)


def test_many_threads_get_what_one_gets(model: Face) -> None:
    def text(seed: int) -> str:
        if seed % 2:
            return model.generate("abc", options(seed)).text
        return "".join(piece.text for piece in model.stream("abc", options(seed)))

    with ThreadPoolExecutor(32) as pool:
        together = list(pool.map(text, range(64)))
    assert together == [model.generate("abc", options(seed)).text for seed in range(64)]
    assert len(set(together)) == 64


def test_stream_that_is_left_frees_its_slot_and_its_session(model: Face) -> None:
    session = model.start_session()
    for piece in session.stream("abc", ENDLESS):
        assert piece.text
        break
    assert session.generate("abc", options(1)).completion.position == 303
    for piece in model.stream("abc", ENDLESS):
        assert piece.text
        break
    wait_for(lambda: running(model) == 0)


def test_threads_take_turns_often_and_never_more_seldom_than_before(folder: Path) -> None:
    before = sys.getswitchinterval()
    try:
        for given, expected in ((0.005, SWITCH_SECONDS), (1e-5, 1e-5)):
            sys.setswitchinterval(given)
            with load(folder):
                assert sys.getswitchinterval() == pytest.approx(expected)
    finally:
        sys.setswitchinterval(before)


def test_slow_reader_stops_its_text_and_no_other(model: Face) -> None:
    stream = model.stream("abc", ENDLESS)
    next(stream)
    model.generate("abc", GenerateOptions(max_new_symbols=20_000, seed=1))
    backend = model._backend
    assert isinstance(backend, Local)
    (waiting,) = backend.aio.model.engine.sequences()
    assert 0 < waiting.generated < 2 * LIMITS.buffer
    stream.close()


def test_closing_ends_what_runs_and_refuses_what_comes(folder: Path) -> None:
    before = model_threads()
    model = load(folder)
    ends: list[str] = []

    def write() -> None:
        with pytest.raises(ClosedError):
            model.generate("abc", ENDLESS)
        ends.append("written")

    def read() -> None:
        try:
            *_, last = model.stream("abc", ENDLESS)
            assert last.completion is not None
            assert last.completion.finish_reason is FinishReason.SHUTDOWN
        except ClosedError:  # between two pieces
            pass
        ends.append("read")

    threads = [threading.Thread(target=write), threading.Thread(target=read)]
    for thread in threads:
        thread.start()
    left = model.stream("abc", ENDLESS)
    next(left)
    wait_for(lambda: running(model) == 3)
    model.close()
    model.close()
    for thread in threads:
        thread.join(PATIENCE)
    assert sorted(ends) == ["read", "written"]
    left.close()
    for call in (model.generate, model.score, model.get_session, model.get_model):
        with pytest.raises(ClosedError, match="load its folder again"):
            call("a")
    assert model_threads() <= before


def test_stream_that_is_left_open_ends_with_its_model(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = load(folder)
    left = model.start_session().stream("abc", ENDLESS)
    next(left)
    model.close()
    left.close()
    assert not caplog.messages


def test_stream_that_is_left_open_ends_with_its_event_loop(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def leave() -> AsyncGenerator[Piece]:
        async with load_async(folder) as model:
            session = await model.start_session()
            left = model.stream("abc", ENDLESS, session=session.session_id)
            await anext(left)
            return left

    left = asyncio.run(leave())
    with pytest.raises(StopAsyncIteration):
        asyncio.run(anext(left))
    assert not caplog.messages


def test_process_that_writes_ends_well_without_closing(folder: Path) -> None:
    script = f"""
import threading, unroll
model = unroll.load({str(folder)!r}, workers=4)
endless = unroll.GenerateOptions(max_new_symbols=2**31 - 1)

def write():
    try:
        model.generate("abc", endless)
    except unroll.UnrollError as error:
        assert type(error).__name__ == "ClosedError"

for _ in range(4):
    threading.Thread(target=write, daemon=True).start()
print(len(next(model.stream("abc", endless)).text) > 0)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_random_keys_hold_for_one_loading(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with load(folder) as first, load(folder) as second:
        capsule = first.generate("abc", options(1)).capsule
        assert first.generate("", options(1), capsule=capsule).text
        with pytest.raises(CapsuleError):
            second.generate("", options(1), capsule=capsule)
    monkeypatch.setenv("UNROLL_CAPSULE_KEYS", "ab" * 32)
    with load(folder) as first, load(folder) as second:
        capsule = first.generate("abc", options(1)).capsule
        assert second.generate("", options(1), capsule=capsule).text


def test_what_cannot_be_loaded_is_named(folder: Path, tmp_path: Path) -> None:
    before = model_threads()
    with pytest.raises(BundleError, match="no-such-folder"):
        load(tmp_path / "no-such-folder")
    with pytest.raises(SettingsError, match="workers = 0"):
        load(folder, workers=0)
    with pytest.raises(SettingsError, match="device = 'tpu': must be one of cpu, cuda"):
        load(folder, device="tpu")  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="kernels = 'gold': must be one of onnx, native"):
        load(folder, kernels="gold")  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="kernels = native: compute with one thread"):
        load(folder, kernels="native", threads=2)
    assert model_threads() <= before


def test_asyncio_twin_gives_the_same(model: Face, folder: Path) -> None:
    async def twin() -> list[object]:
        async with load_async(folder) as other:
            texts = await asyncio.gather(*[other.generate("abc", options(s)) for s in range(20)])
            pieces = [piece async for piece in other.stream("abc", options(5))]
            session = await other.start_session()
            answer = await session.generate("abc", options(6))
            return [
                [each.text for each in texts],
                "".join(piece.text for piece in pieces),
                answer.text,
                await other.score("abc"),
            ]

    texts = [model.generate("abc", options(seed)).text for seed in range(20)]
    assert asyncio.run(twin()) == [texts, texts[5], texts[6], model.score("abc")]


def test_cancelled_task_frees_the_slot(folder: Path) -> None:
    async def leave() -> None:
        async with load_async(folder) as model:
            backend = model._backend
            assert isinstance(backend, AsyncLocal)
            engine = backend.model.engine
            async with aclosing(model.stream("abc", ENDLESS)) as stream:
                assert (await anext(stream)).text
                assert len(engine.sequences()) == 1
            await asyncio.to_thread(wait_for, lambda: len(engine.sequences()) == 0)
            task = asyncio.ensure_future(backend.generate("abc", ENDLESS, Origin(), None))
            await asyncio.to_thread(wait_for, lambda: len(engine.sequences()) == 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.to_thread(wait_for, lambda: len(engine.sequences()) == 0)

    asyncio.run(leave())
