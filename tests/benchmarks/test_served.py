"""The served benchmark measures a real server of a tiny model from beginning to end."""

import os
from pathlib import Path

import pytest

from benchmarks.harness.process import running
from benchmarks.harness.record import read
from benchmarks.served.__main__ import measure
from benchmarks.served.record import ServedRecord, file_name
from benchmarks.served.settings import ServedSettings
from unroll.client.load.settings import Mode
from unroll.errors import ServerError

pytestmark = pytest.mark.slow

CORE = min(os.sched_getaffinity(0))


def test_a_server_that_does_not_start_tells_why() -> None:
    with (
        pytest.raises(ServerError, match="no-such-bundle"),
        running("serving", "--model", "no-such-bundle", core=CORE),
    ):
        pass


def test_every_figure_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = os.sched_getaffinity(0)
    measure(
        ServedSettings(
            model=("gru-7x2",),
            clients=(3,),
            vocabulary=11,
            new_symbols=40,
            slots=5,
            seconds=1.0,
            warm_up=0.2,
            repeats=1,
            calls=5,
            worker_core=CORE,
            loop_core=max(before),
            json=tmp_path,
        )
    )
    assert os.sched_getaffinity(0) == before
    record = read(ServedRecord, tmp_path / file_name("gru-7x2"))
    (point,) = record.points
    assert (record.model, point.clients, len(point.alone)) == ("gru-7x2", 3, 1)
    assert (point.unary.first, point.unary.gaps) == (None, None)
    for mode in Mode:
        served = point.served(mode)
        (sample,) = served.samples
        assert sample.symbols_per_second > 0
        assert sample.resident_bytes[0] > 2**20
        assert 0 < sample.least_over_median <= 1
        assert point.ratio(mode) == pytest.approx(sample.symbols_per_second / point.alone[0])
        assert served.requests is not None
        times = served.requests
        assert 0 < times.p50 <= times.p90 <= times.p99 <= times.longest
        assert times.count > 3
    assert len(record.one_character.generate) == 5
    assert len(record.workers.two) == 1
    shown = capsys.readouterr().out
    assert "gru-7x2" in shown
    assert "one character, (Generate - echo) / compute" in shown
