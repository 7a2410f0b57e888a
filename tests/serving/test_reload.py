"""A name gets a new bundle while the server runs; what began on the old one ends there."""

import asyncio
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest

from tests.serving.running import (
    ENDLESS,
    NARROW,
    PATIENCE,
    RunningServer,
    serve,
    server_process,
    wait_for,
)
from tests.serving.runtime.test_probe import forge
from training.settings import Cell
from unroll.bundle.manifest import WEIGHTS
from unroll.client.client import Client
from unroll.errors import CapsuleError, UnrollError
from unroll.options import GenerateOptions, SessionOptions

ASKED = GenerateOptions(max_new_symbols=50, seed=3, log_probs=True)
LONG = GenerateOptions(max_new_symbols=30_000, seed=3)


def put(bundle: Path, folder: Path) -> None:
    """Put a bundle where another one is, as a deployment does."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(bundle, folder)


def reload(server: RunningServer) -> None:
    asyncio.run_coroutine_threadsafe(server.server.reload(), server.loop).result(PATIENCE)


@pytest.mark.slow
def test_new_texts_begin_on_the_new_bundle_and_old_ones_end_on_theirs(
    tiny_bundles: dict[Cell, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "live"
    put(tiny_bundles["gru"], folder)
    with (
        serve(str(tiny_bundles["gru"])) as old,
        serve(str(tiny_bundles["lstm"])) as new,
        old.client() as old_client,
        new.client() as new_client,
        serve(f"live={folder}") as server,
        server.client() as client,
    ):
        session = client.start_session(SessionOptions(model="live", seed=5))
        begun = session.generate("abc", ASKED)
        capsule = client.generate("abc", ASKED).capsule
        stream = client.stream("abc", LONG)
        text = next(stream).text
        put(tiny_bundles["lstm"], folder)
        reload(server)
        assert client.generate("abc", ASKED).text == new_client.generate("abc", ASKED).text
        assert client.get_model().fingerprint == new_client.get_model().fingerprint
        text += "".join(piece.text for piece in stream)
        assert text == old_client.generate("abc", LONG).text
        own = old_client.start_session(SessionOptions(seed=5))
        assert own.generate("abc", ASKED).text == begun.text
        expected = own.generate("dad", ASKED).text
        assert client.generate("dad", ASKED, session=session.session_id).text == expected
        again = client.generate("dad", ASKED, capsule=capsule)
        assert again.text == old_client.generate("dad", ASKED, session=_at(old_client)).text
        named = GenerateOptions(max_new_symbols=50, seed=3, log_probs=True, model="live")
        assert client.generate("dad", named, capsule=capsule).text == again.text
        assert (
            client.start_session().generate("abc", ASKED).text
            == new_client.generate("abc", ASKED).text
        )


def _at(client: Client) -> str:
    session = client.start_session(SessionOptions(seed=3))
    session.generate("abc", ASKED)
    return session.session_id


def test_broken_bundle_is_refused_and_the_old_one_goes_on(
    tiny_bundles: dict[Cell, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "live"
    put(tiny_bundles["gru"], folder)
    with serve(str(folder)) as server, server.client() as client:
        before = client.generate("abc", ASKED).text
        put(tiny_bundles["lstm"], folder)
        weights = folder / "weights.bin"
        weights.write_bytes(weights.read_bytes()[:-1] + b"!")
        reload(server)
        assert "model live: the loaded bundle stays" in caplog.text
        assert "weights.bin" in caplog.text
        assert client.generate("abc", ASKED).text == before
        shutil.rmtree(folder)
        reload(server)
        assert "no bundle there" in caplog.text
        assert client.generate("abc", ASKED).text == before


def test_weights_that_are_no_numbers_are_refused_and_the_old_ones_go_on(
    tiny_bundles: dict[Cell, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "live"
    put(tiny_bundles["gru"], folder)
    with serve(str(folder)) as server, server.client() as client:
        before = client.generate("abc", ASKED).text
        put(tiny_bundles["lstm"], folder)
        weights = np.fromfile(folder / WEIGHTS, "<f4")
        weights[5] = np.nan
        weights.tofile(folder / WEIGHTS)
        forge(folder, lambda manifest: None)  # its hashes and fingerprint are right
        reload(server)
        assert "weights.bin: the number at byte 20 is nan" in caplog.text
        assert client.generate("abc", ASKED).text == before


def test_same_bundle_changes_nothing_and_an_old_one_comes_back(
    tiny_bundles: dict[Cell, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "live"
    put(tiny_bundles["gru"], folder)
    with serve(str(folder)) as server, server.client():
        models = server.server.models
        first = models.get("")
        reload(server)
        assert models.everyone == [first]
        put(tiny_bundles["lstm"], folder)
        reload(server)
        second = models.get("")
        assert models.everyone == [second, first]
        put(tiny_bundles["gru"], folder)
        reload(server)
        assert models.everyone == [first, second]


def test_bundle_retired_for_long_is_closed_and_its_sessions_say_so(
    tiny_bundles: dict[Cell, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "live"
    put(tiny_bundles["gru"], folder)
    with (
        serve(str(folder), keep_retired=1, grace_seconds=0.1) as server,
        server.client() as client,
    ):
        session = client.start_session()
        capsule = client.generate("abc", ASKED).capsule
        stream = client.stream("abc", GenerateOptions(max_new_symbols=ENDLESS))
        next(stream)
        for cell in ("lstm", "rnn_tanh"):
            put(tiny_bundles[cell], folder)
            reload(server)
        assert len(server.server.models.everyone) == 2
        with pytest.raises(UnrollError, match="is no longer served here"):
            session.generate("abc", ASKED)
        with pytest.raises(CapsuleError, match="is not served here"):
            client.generate("abc", ASKED, capsule=capsule)
        last = list(stream)[-1].completion
        assert last is not None
        assert last.finish_reason.value in {"shutdown", "length"}
        client.wait_until_ready(PATIENCE)  # health stays good
        assert client.generate("abc", ASKED).text


def test_bundles_that_drain_leave_the_scores_their_threads(
    tiny_bundles: dict[Cell, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "live"
    put(tiny_bundles["gru"], folder)
    with (
        serve(str(folder), keep_retired=0, buffer_symbols=64) as server,
        server.client() as client,
        Client(channel=grpc.insecure_channel(server.address, options=NARROW)) as slow,
        ThreadPoolExecutor(1) as pool,
    ):
        server.loop.call_soon_threadsafe(server.loop.set_default_executor, ThreadPoolExecutor(1))
        old = server.server.models.get("").engine
        # More than a connection holds, and nobody reads on: its bundle drains for the grace time.
        asked = GenerateOptions(max_new_symbols=ENDLESS, log_probs=True)
        stream = slow.stream("abc", asked)
        next(stream)
        put(tiny_bundles["lstm"], folder)
        done = pool.submit(reload, server)
        wait_for(lambda: server.server.models.get("").engine is not old)
        assert client.score("abc", timeout=PATIENCE / 2).log_probs
        assert len(old.sequences()) == 1
        stream.close()
        done.result(PATIENCE)


def test_sighup_reloads(tiny_bundles: dict[Cell, Path], tmp_path: Path) -> None:
    folder = tmp_path / "live"
    put(tiny_bundles["gru"], folder)
    with (
        server_process(tmp_path, "--model", str(folder)) as (process, address),
        Client(address) as client,
    ):
        before = client.get_model().fingerprint
        put(tiny_bundles["lstm"], folder)
        process.send_signal(signal.SIGHUP)
        wait_for(lambda: client.get_model().fingerprint != before)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, errors
        assert "for new texts" in errors
