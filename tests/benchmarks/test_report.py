"""The page of figures says what the records say, and the targets what the points say."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.decode.record import FORMAT_VERSION, Point, Record, file_name, read, write
from benchmarks.decode.tables import decode_rows, targets
from benchmarks.report import page
from benchmarks.timing import interleave, spread
from serving.errors import SettingsError

ROOT = Path(__file__).parents[2]


def a_point(batch: int = 16, **microseconds: float) -> Point:
    times = {"loop": 100.0, "products": 90.0, "read": 20.0} | microseconds
    return Point(
        model="gru-7x3",
        vocabulary=11,
        batch=batch,
        precision="fp32",
        microseconds={way: [time, time, 7 * time] for way, time in times.items()},
        setups={"jax": "b"},
        trials={"jax": {"a": 240.0, "b": 120.0}},
        not_run={"openvino": "openvino is not installed"},
    )


def a_record(*points: Point) -> Record:
    return Record(
        format_version=FORMAT_VERSION,
        device="cpu",
        machine={"processor": "2 x Some", "core": "1", "torch": "2"},
        gigabytes_per_second=20.0,
        settings={"steps": 32, "repeats": 3},
        points=list(points),
    )


def test_the_committed_page_is_what_the_records_give() -> None:
    committed = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    assert committed == page(ROOT / "docs" / "figures"), "run `make bench-report`"


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    record = a_record(a_point(jax=120.0))
    write(record, tmp_path / "r.json")
    assert read(tmp_path / "r.json") == record


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no record"),
        ("[1]", "is no record"),
        (json.dumps({"format_version": FORMAT_VERSION}), "is no record"),
        (json.dumps({"format_version": FORMAT_VERSION + 1}), "measure again"),
    ],
)
def test_what_is_no_record_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "r.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match=message):
        read(path)


def test_records_of_two_machines_make_no_page(tmp_path: Path) -> None:
    one = a_record(a_point(jax=120.0))
    write(one, tmp_path / file_name("cpu", "gru-7x3", 11))
    assert "2 x Some" in page(tmp_path)
    write(
        replace(one, machine=one.machine | {"torch": "3"}),
        tmp_path / file_name("cpu", "gru-7x3", 13),
    )
    with pytest.raises(SettingsError, match="measure all of them on one machine"):
        page(tmp_path)


def test_a_page_needs_records(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no record there"):
        page(tmp_path)


def test_the_page_says_what_did_not_run_and_which_setup_was_fastest(tmp_path: Path) -> None:
    write(a_record(a_point(jax=120.0)), tmp_path / file_name("cpu", "gru-7x3", 11))
    text = page(tmp_path)
    assert "Not run: openvino: openvino is not installed." in text
    assert "| jax | b | 1 of 1 points | 1.00 |" in text
    assert "| jax | a | 0 of 1 points | 2.00 |" in text


def test_the_page_has_the_gpu_beside_the_processor_where_both_were_measured(
    tmp_path: Path,
) -> None:
    cpu = a_record(a_point(), a_point(batch=4))
    write(cpu, tmp_path / file_name("cpu", "gru-7x3", 11))
    assert "GPU" not in page(tmp_path)
    machine = cpu.machine | {"gpu": "Some GPU"}
    cuda = replace(a_record(a_point(loop=25.0)), device="cuda", machine=machine)
    write(cuda, tmp_path / file_name("cuda", "gru-7x3", 11))
    text = page(tmp_path)
    assert "The processor beside Some GPU" in text
    assert "| gru-7x3 | 11 | 16 | fp32 | 100 | 25 | 4.00 | 640,000 |" in text
    assert text.count("| 640,000 |") == 2  # there, and in the GPU's own table


def test_a_table_shows_medians_ratios_and_what_did_not_run() -> None:
    header, row = decode_rows([a_point(torch=250.0, jax=120.0)])
    shown = dict(zip(header, row, strict=True))
    assert shown["loop"] == "100"
    assert shown["loop / products"] == "1.11"
    assert shown["best peer / loop"] == "1.20 jax"
    assert shown["torch / loop"] == "2.50"
    assert shown["openvino"] == "not run"
    assert shown["symbols/s"] == "160,000"


def test_targets_name_the_worst_point() -> None:
    points = [a_point(jax=160.0), a_point(batch=64, jax=90.0, products=80.0)]
    found = {target.name: target for target in targets(points)}
    products = found["loop / products, batch 16 and more"]
    assert (products.found, products.is_met) == ("1.25 at worst (gru-7x3, V = 11, batch 64)", False)
    everywhere = found["best peer / loop, everywhere"]
    assert everywhere.found == "0.90 at worst (gru-7x3, V = 11, batch 64)"
    assert not everywhere.is_met
    mean = found["best peer / loop, geometric mean"]
    assert (mean.found, mean.is_met) == ("1.20 over 2 points", True)
    assert "torch / loop, batch 1" not in found


def test_ways_are_timed_in_turn_each_after_an_untimed_run() -> None:
    calls: list[str] = []
    ways = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    samples = interleave(ways, repeats=3, steps=2)
    assert {way: len(times) for way, times in samples.items()} == {"a": 3, "b": 3}
    assert calls == ["a", "b", *["a", "a", "b", "b"] * 3]


def test_the_spread_of_samples_is_that_of_their_middle_half() -> None:
    assert spread([10.0, 9.0, 11.0, 10.0, 900.0]) == pytest.approx(0.1)
    assert spread([3.0]) == 0.0
