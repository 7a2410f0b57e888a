"""Contiguous parallel streams."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.data.streams import Position, Streams
from unroll.errors import CorpusError


@given(
    symbols=st.integers(2, 400),
    streams=st.integers(1, 5),
    window=st.integers(1, 7),
    start_offset=st.integers(0, 9),
    epoch=st.integers(0, 3),
)
def test_an_epoch_covers_every_symbol_once(
    symbols: int, streams: int, window: int, start_offset: int, epoch: int
) -> None:
    ids = torch.arange(symbols)
    try:
        cut = Streams(ids, streams=streams, window=window, start_offset=start_offset, seed=25)
    except CorpusError:
        assert symbols < streams * window + max(1, start_offset)
        return
    batches = [cut.batch(Position(epoch=epoch, window=k)) for k in range(cut.windows(epoch))]
    inputs = torch.cat([x for x, _ in batches])  # (K * T, N)
    targets = torch.cat([y for _, y in batches])  # (K * T, N)
    read = inputs.t().flatten()
    assert torch.equal(read, (cut.offset(epoch) + torch.arange(len(read))) % symbols)
    assert torch.equal(targets, (inputs + 1) % symbols)
    unread = cut.offset(epoch) if start_offset else 0
    assert 0 <= symbols - 1 - unread - len(read) < streams * window
    assert start_offset == 0 or bool((targets > inputs).all())
    assert all(x.shape == (window, streams) for x, _ in batches)


def test_windows_of_a_stream_go_on_where_the_last_one_ended() -> None:
    cut = Streams(torch.arange(100), streams=3, window=5, start_offset=0, seed=1)
    first, second = (cut.batch(Position(window=k))[0] for k in (0, 1))
    assert torch.equal(second[0], first[-1] + 1)


def test_epochs_start_at_different_symbols_the_same_for_the_same_seed() -> None:
    ids = torch.arange(5000)
    a, b, c = (Streams(ids, streams=1, window=50, start_offset=100, seed=s) for s in (1, 1, 2))
    starts = [a.offset(epoch) for epoch in range(50)]
    assert starts == [b.offset(epoch) for epoch in range(50)]
    assert starts != [c.offset(epoch) for epoch in range(50)]
    assert len(set(starts)) > 20
    assert max(starts) < 100


def test_epochs_start_anywhere_and_go_round_unless_told_where_to_start() -> None:
    cut = Streams(torch.arange(1000), streams=4, window=50, start_offset=0, seed=1)
    starts = [cut.offset(epoch) for epoch in range(50)]
    assert min(starts) < 200
    assert max(starts) > 800
    assert {cut.windows(epoch) for epoch in range(50)} == {4}


def test_positions_run_through_an_epoch_and_into_the_next() -> None:
    cut = Streams(torch.arange(32), streams=2, window=5, start_offset=1, seed=1)
    assert cut.windows(0) == 3
    position, seen = Position(), []
    for _ in range(7):
        seen.append((position.epoch, position.window))
        position = cut.after(position)
    assert seen == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0)]


def test_a_text_too_short_for_one_batch_is_refused_with_the_numbers() -> None:
    with pytest.raises(CorpusError, match=r"20 symbols .* --streams 3 x --window 7 needs 22"):
        Streams(torch.arange(20), streams=3, window=7, start_offset=0, seed=1)
    assert Streams(torch.arange(22), streams=3, window=7, start_offset=0, seed=1).windows(0) == 1
    with pytest.raises(CorpusError, match="--window 7 with --start-offset 5 needs 26"):
        Streams(torch.arange(25), streams=3, window=7, start_offset=5, seed=1)
    assert Streams(torch.arange(26), streams=3, window=7, start_offset=5, seed=1).windows(0) == 1
