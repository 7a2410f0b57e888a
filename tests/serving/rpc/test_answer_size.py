"""An answer too large for one message is refused before it is computed."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.serving.running import NARROW, PATIENCE, RunningServer, serve, wait_for
from training.settings import Cell
from unroll.client.client import Client
from unroll.errors import InputError
from unroll.options import GenerateOptions
from unroll.terms import Capsules

SMALL = 20_000  # bytes


@pytest.fixture(scope="module")
def small(tiny_bundles: dict[Cell, Path]) -> Iterator[RunningServer]:
    with serve(str(tiny_bundles["gru"]), max_message_bytes=SMALL) as running:
        yield running


@pytest.fixture
def client(small: RunningServer) -> Iterator[Client]:
    with small.client() as made:
        yield made


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        (GenerateOptions(max_new_symbols=SMALL), "max_new_symbols"),
        (GenerateOptions(max_new_symbols=SMALL // 4, log_probs=True), "max_new_symbols"),
        (GenerateOptions(max_new_symbols=SMALL // 10, sample_count=8), "sample_count"),
    ],
)
def test_answer_that_might_not_go_through_is_refused_and_nothing_is_computed(
    client: Client,
    small: RunningServer,
    monkeypatch: pytest.MonkeyPatch,
    asked: GenerateOptions,
    field: str,
) -> None:
    submitted: list[object] = []
    monkeypatch.setattr(small.server.models.get("").engine, "submit", submitted.append)
    with pytest.raises(InputError, match="or use StreamGenerate") as caught:
        client.generate("abc", asked, timeout=PATIENCE)
    assert caught.value.field == field
    assert not submitted


def test_session_stays_where_it_is(client: Client) -> None:
    session = client.start_session()
    with pytest.raises(InputError, match="bytes"):
        session.generate("abc", GenerateOptions(max_new_symbols=SMALL), timeout=PATIENCE)
    assert session.describe().position == 0


def test_stream_of_the_same_length_goes_through(client: Client) -> None:
    asked = GenerateOptions(max_new_symbols=SMALL, log_probs=True)
    pieces = client.stream("abc", asked, timeout=3 * PATIENCE)
    assert sum(len(piece.text) for piece in pieces) == SMALL


@pytest.mark.slow
def test_pieces_that_a_reader_leaves_lying_fit_into_one_message(
    tiny_bundles: dict[Cell, Path],
) -> None:
    """Symbols wait twice: for the next message to be due, and for a reader who has no room."""
    asked = GenerateOptions(max_new_symbols=SMALL, log_probs=True, capsules=Capsules.EVERY_CHUNK)
    rare = serve(
        str(tiny_bundles["gru"]),
        max_message_bytes=SMALL,
        messages_per_second=1.0,
        buffer_symbols=10**6,
    )
    channel_options = [*NARROW, ("grpc.max_receive_message_length", SMALL)]
    with rare as running:
        channel = grpc.insecure_channel(running.address, options=channel_options)
        with Client(channel=channel) as client:
            pieces = client.stream("abc", asked, timeout=3 * PATIENCE)
            first = next(pieces)
            wait_for(lambda: all(each.is_stalled for each in running.sequences()))
            sizes = [len(first.text), *(len(piece.text) for piece in pieces)]
    assert sum(sizes) == SMALL
    assert max(sizes) > SMALL // 20


def test_stream_whose_messages_might_not_go_through_is_refused(
    tiny_bundles: dict[Cell, Path],
) -> None:
    asked = GenerateOptions(max_new_symbols=2, log_probs=True)
    with (
        serve(str(tiny_bundles["gru"]), max_message_bytes=4000) as running,
        running.client() as client,
        pytest.raises(InputError, match="this server has a limit of 4000") as caught,
    ):
        next(client.stream("abc", asked))
    assert caught.value.field == "model"


def test_forks_whose_answer_might_not_go_through_are_refused_and_none_is_started(
    tiny_bundles: dict[Cell, Path],
) -> None:
    with (
        serve(str(tiny_bundles["gru"]), max_message_bytes=4000) as running,
        running.client() as client,
    ):
        session = client.start_session()
        with pytest.raises(InputError, match="must be 1 to 3, got 60"):
            session.fork(list(range(60)))
        assert len(running.server._store) == 1
        assert len(session.fork([1, 2, 3])) == 3


def test_longest_answer_that_is_allowed_goes_through(client: Client) -> None:
    for new in range(SMALL // 5, 0, -100):
        asked = GenerateOptions(max_new_symbols=new, log_probs=True, seed=3)
        try:
            answer = client.generate("abc", asked)
        except InputError:
            continue
        assert len(answer.text) == new > SMALL // 12
        return
    raise AssertionError("nothing is allowed")


def test_text_whose_scores_might_not_go_through_is_refused(client: Client) -> None:
    with pytest.raises(InputError, match="scores may take") as caught:
        client.score("a" * (SMALL // 4))
    assert caught.value.field == "text"
    assert client.score("a" * (SMALL // 5)).log_probs
