"""The page of figures says what the records say, and the targets what the points say."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.decode.record import DecodeRecord, Point, file_name
from benchmarks.decode.tables import decode_rows, targets
from benchmarks.harness.record import read
from benchmarks.harness.timing import interleave
from benchmarks.report import page
from benchmarks.served import record as served
from benchmarks.served.tables import load_rows
from benchmarks.served.tables import targets as served_targets
from unroll.client.load.settings import Mode
from unroll.client.load.tally import Durations
from unroll.errors import SettingsError
from unroll.record import FORMAT_VERSION, write

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


def a_record(*points: Point) -> DecodeRecord:
    return DecodeRecord(
        device="cpu",
        machine={"processor": "2 x Some", "core": "1", "torch": "2"},
        gigabytes_per_second=20.0,
        settings={"steps": 32, "repeats": 3},
        points=list(points),
    )


def a_sample(rate: float, megabytes: int) -> served.ServedSample:
    return served.ServedSample(
        symbols_per_second=rate,
        least_over_median=0.75,
        engine_microseconds=19.0,
        other_microseconds=4.5,
        client_microseconds=3.5,
        resident_bytes=[90 * 2**20, megabytes * 2**20],
    )


def a_served_point(clients: int, streamed: list[float]) -> served.ServedPoint:
    times = Durations(count=7, p50=0.002, p90=0.003, p99=0.0055, longest=0.9)
    stream = [a_sample(rate, 100) for rate in streamed]
    unary = [a_sample(950.0, 100 + 10 * repeat) for repeat in range(len(streamed))]
    return served.ServedPoint(
        clients=clients,
        alone=[1000.0] * len(streamed),
        stream=served.Served(samples=stream, first=times, gaps=times, requests=None),
        unary=served.Served(samples=unary, first=None, gaps=None, requests=times),
    )


def a_served_record(*points: served.ServedPoint, model: str = "gru-7x3") -> served.ServedRecord:
    return served.ServedRecord(
        model=model,
        machine={"processor": "2 x Some", "grpcio": "1"},
        settings={"model": [model], "vocabulary": 11, "new_symbols": 40, "slots": 5}
        | {"seconds": 1.0, "warm_up": 0.5, "repeats": 3, "calls": 20},
        points=list(points),
        one_character=served.OneCharacter(generate=[0.0016], echo=[0.0006], compute=[0.0004]),
        workers=served.Scaling(one=[100.0, 110.0], two=[190.0, 200.0]),
    )


def test_the_committed_page_is_what_the_records_give() -> None:
    committed = (ROOT / "docs" / "notes" / "performance.md").read_text(encoding="utf-8")
    assert committed == page(ROOT / "docs" / "figures"), "run `make bench-report`"


def test_records_come_back_as_they_were_written(tmp_path: Path) -> None:
    for record in (a_record(a_point(jax=120.0)), a_served_record(a_served_point(3, [900.0, 7.0]))):
        write(record, tmp_path / "r.json")
        assert read(type(record), tmp_path / "r.json") == record


@pytest.mark.parametrize("text", ["{", "[1]", "{}"])
def test_what_is_no_record_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "r.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match="is no record"):
        read(DecodeRecord, path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": FORMAT_VERSION + 1}, "measure again"),
        ({"format_version": None}, "measure again"),
        ({"unknown": 1}, "is no record"),
        ({"points": [{"clients": 3}]}, "is no record"),
    ],
)
def test_record_with_one_fault_is_refused(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    path = tmp_path / "r.json"
    write(a_served_record(a_served_point(3, [900.0])), path)
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | change))
    with pytest.raises(SettingsError, match=message):
        read(served.ServedRecord, path)


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


def test_the_page_has_what_was_served_beside_the_engine_alone(tmp_path: Path) -> None:
    write(a_record(a_point(jax=120.0)), tmp_path / file_name("cpu", "gru-7x3", 11))
    without = page(tmp_path)
    assert "## Served" not in without
    record = a_served_record(a_served_point(1, [860.0, 900.0, 700.0]))
    write(record, tmp_path / served.file_name("gru-7x3"))
    text = page(tmp_path)
    assert text.startswith(without)
    for line in (
        "| 1 | stream | 1,000 | 860 | 0.860 | 2.0 / 3.0 / 5.5 | 2.0 / 3.0 / 5.5 | - |"
        " 19.0 | 4.5 | 3.5 | 0.75 |",
        "| gru-7x3 | 600 | 1,600 | 400 | 2.50 |",
        "| gru-7x3 | 105 | 195 | 1.86 |",
        "| gru-7x3 | 1 streaming, served / alone | >= 0.85 | 0.860 | yes |",
        "| gru-7x3 | one character, (Generate - echo) / compute | <= 2 | 2.500 | NO |",
    ):
        assert f"\n{line}\n" in text
    assert "V = 11; 5 slots" in text
    assert "medians of 20 each" in text


def test_served_records_of_several_settings_make_no_page(tmp_path: Path) -> None:
    write(a_record(a_point(jax=120.0)), tmp_path / file_name("cpu", "gru-7x3", 11))
    one = a_served_record(a_served_point(3, [900.0]))
    other = a_served_record(a_served_point(5, [800.0]), model="gru-7x5")
    write(one, tmp_path / served.file_name("gru-7x3"))
    write(other, tmp_path / served.file_name("gru-7x5"))
    assert page(tmp_path).index("### gru-7x3") < page(tmp_path).index("### gru-7x5")
    changed = replace(other, settings=other.settings | {"slots": 7})
    write(changed, tmp_path / served.file_name("gru-7x5"))
    with pytest.raises(SettingsError, match="measure all of them on one machine"):
        page(tmp_path)


def test_the_served_table_has_both_modes_of_every_number_of_clients() -> None:
    record = a_served_record(a_served_point(3, [900.0]), a_served_point(5, [800.0]))
    header, *rows = load_rows(record)
    shown = [dict(zip(header, row, strict=True)) for row in rows]
    assert [(row["clients"], row["mode"], row["served"]) for row in shown] == [
        ("3", Mode.STREAM.value, "900"),
        ("3", Mode.UNARY.value, "950"),
        ("5", Mode.STREAM.value, "800"),
        ("5", Mode.UNARY.value, "950"),
    ]


def test_memory_is_judged_from_two_repeats_up() -> None:
    name = "256 clients, memory, last repeat / first"
    twice = a_served_record(a_served_point(256, [900.0, 900.0]))
    found = {target.name: target for target in served_targets(twice)}
    assert (found[name].found, found[name].is_met) == ("1.100", False)
    once = a_served_record(a_served_point(256, [900.0]))
    assert name not in {target.name for target in served_targets(once)}


def test_a_table_shows_medians_ratios_and_what_did_not_run() -> None:
    header, row = decode_rows([a_point(torch=250.0, jax=120.0)])
    shown = dict(zip(header, row, strict=True))
    assert shown["loop"] == "100"
    assert shown["loop / products"] == "1.11"
    assert shown["best peer / loop"] == "1.20 jax"
    assert shown["torch / loop"] == "2.50"
    assert shown["openvino"] == "not run"
    assert shown["symbols/s"] == "160,000"


def test_native_kernels_and_the_graph_are_judged_by_the_same_targets() -> None:
    small = [a_point(jax=90.0, native=80.0), a_point(batch=1, jax=90.0, native=95.0)]
    large = replace(a_point(batch=64, native=112.5), precision="int8")
    found = {target.name: target for target in targets([*small, large, a_point(batch=64)])}
    assert set(found) == {
        f"{name.format(loop)}"
        for loop in ("native", "loop")
        for name in (
            "{} / products, int8, batch 64 and 256",
            "best peer / {}, batch 1 to 16",
            "best peer / {}, geometric mean, batch 1 to 16",
        )
    }
    assert found["native / products, int8, batch 64 and 256"].found.startswith("1.25 at worst")
    assert found["loop / products, int8, batch 64 and 256"].found.startswith("1.11 at worst")
    peers = found["best peer / native, batch 1 to 16"]
    assert (peers.found, peers.is_met) == ("0.95 at worst (gru-7x3, V = 11, batch 1)", False)
    assert found["best peer / native, geometric mean, batch 1 to 16"].is_met
    assert not found["best peer / loop, geometric mean, batch 1 to 16"].is_met


def test_the_page_has_what_8_bits_lose(tmp_path: Path) -> None:
    low = replace(
        a_point(native=99.0, torch=250.0),
        precision="int8",
        losses={"loop": 0.0003, "torch (x)": 0.02},
    )
    write(a_record(low), tmp_path / file_name("cpu", "gru-7x3", 11))
    text = page(tmp_path)
    for line in (
        "| model | V | loop | torch (x) |",
        "| gru-7x3 | 11 | 0.00030 | 0.02000 |",
        "Measured on one core of 2 x Some, without AMX",
    ):
        assert f"\n{line}" in text


def test_processors_with_amx_have_a_section_and_a_wider_limit(tmp_path: Path) -> None:
    write(a_record(a_point(jax=120.0)), tmp_path / file_name("cpu", "gru-7x3", 11))
    slow = replace(a_point(batch=64, native=140.0), precision="int8")
    with_amx = replace(a_record(slow), has_amx=True)
    other_core = replace(with_amx, machine={**with_amx.machine, "core": "9"})
    write(with_amx, tmp_path / "amx-cpu-a.json")
    write(other_core, tmp_path / "amx-cpu-b.json")
    text = page(tmp_path)
    assert "### With AMX" in text
    assert "| native / products, int8, batch 64 and 256 | <= 1.6 | 1.56 at worst" in text


def test_ways_are_timed_in_turn_each_after_an_untimed_run() -> None:
    calls: list[str] = []
    ways = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    samples = interleave(ways, repeats=3, steps=2)
    assert {way: len(times) for way, times in samples.items()} == {"a": 3, "b": 3}
    assert calls == ["a", "b", *["a", "a", "b", "b"] * 3]
