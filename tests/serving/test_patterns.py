"""Patterns and biases through the doors: the same text everywhere, whole, streamed, resumed."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from serving.local.model import LocalModel, load
from tests.conftest import TINY_SYMBOLS, export_briefly, tiny_checkpoint
from tests.serving.http.asking import ask
from tests.serving.running import RunningServer, serve
from training.settings import Cell
from unroll.bundle.form import TextForm
from unroll.client.client import Client
from unroll.client.commands.ask import generate
from unroll.client.remote.resume import Resumption
from unroll.errors import InputError, UnavailableError
from unroll.options import GenerateOptions, Origin
from unroll.terms import Capsules, FinishReason
from unroll.v1 import text_generation_pb2 as pb

PATTERN = "(?:ab|c){4}(?: [a-d]{3,5})*£"
OPTIONS = GenerateOptions(pattern=PATTERN, seed=11, max_new_symbols=60)
BIASED = replace(OPTIONS, logit_bias={"c": 2.5, "d": -float("inf")}, temperature=0.8)


@pytest.fixture(scope="module")
def server(tiny_bundles: dict[Cell, Path]) -> Iterator[RunningServer]:
    with serve(str(tiny_bundles["gru"]), http_port=0) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[Client]:
    with server.client() as made:
        yield made


@pytest.fixture(scope="module")
def local(tiny_bundles: dict[Cell, Path]) -> Iterator[LocalModel]:
    with load(tiny_bundles["gru"]) as made:
        yield made


@pytest.mark.parametrize("options", [OPTIONS, BIASED])
def test_text_is_the_same_through_every_door(
    server: RunningServer, client: Client, local: LocalModel, options: GenerateOptions
) -> None:
    whole = client.generate("ab", options)
    assert re.fullmatch(PATTERN, whole.text)
    assert whole.completion.finish_reason is FinishReason.PATTERN
    assert whole.completion.is_match is True
    if options.logit_bias:
        assert "d" not in whole.text
    assert local.generate("ab", options).text == whole.text
    for model in (client, local):
        pieces = list(model.stream("ab", options))
        assert "".join(piece.text for piece in pieces) == whole.text
        assert pieces[-1].completion is not None
        assert pieces[-1].completion.is_match is True
        (many,) = model.generate_many(["ab"], options)
        assert many.result.text == whole.text
    sampling = {"logitBias": {"c": 2.5, "d": "-Infinity"}, "temperature": 0.8}
    body = {"prompt": "ab", "pattern": PATTERN, "seed": "11", "maxNewSymbols": 60}
    body |= {"sampling": sampling} if options.logit_bias else {}
    answer = ask(server, "POST", "/unroll.v1.TextGenerationService/Generate", body).json
    assert answer["text"] == whole.text
    assert answer["completion"]["isMatch"] is True
    assert answer["completion"]["finishReason"] == "FINISH_REASON_PATTERN"


def test_json_schema_is_matched_as_its_pattern(client: Client) -> None:
    options = GenerateOptions(json_schema='{"enum": ["x"]}', seed=1)
    with pytest.raises(InputError, match="""json_schema: has no match without '"' """):
        client.generate("", options)
    options = replace(options, json_schema='{"type": "frog"}')
    with pytest.raises(InputError, match="json_schema: cannot be turned into a pattern"):
        client.generate("", options)


def test_samples_match_each_with_its_own_seed(client: Client) -> None:
    first = client.generate("ab", replace(OPTIONS, sample_count=4))
    for index, sample in enumerate((first, *first.further_samples)):
        alone = client.generate("ab", replace(OPTIONS, seed=11 + index))
        assert sample.text == alone.text
        assert re.fullmatch(PATTERN, sample.text)


@pytest.mark.parametrize("options", [OPTIONS, BIASED])
def test_text_goes_on_from_every_capsule_within_its_pattern(
    client: Client, options: GenerateOptions
) -> None:
    asked = replace(options, capsules=Capsules.EVERY_CHUNK, stop=("£x",))
    whole = client.generate("ab", asked).text
    text = ""
    for piece in client.stream("ab", asked):
        text += piece.text
        if piece.completion is None:
            rest = client.generate(
                "", GenerateOptions(max_new_symbols=60, stop=("£x",)), capsule=piece.capsule
            )
            assert text + rest.text == whole
            assert rest.completion.is_match is True
    assert text == whole


def test_session_keeps_its_pattern_until_it_is_matched(client: Client) -> None:
    whole = client.generate("ab", OPTIONS)
    session = client.start_session()
    first = session.generate("ab", replace(OPTIONS, max_new_symbols=5))
    assert (first.completion.finish_reason, first.completion.is_match) == (
        FinishReason.LENGTH,
        False,
    )
    (fork,) = session.fork([11])
    rest = session.generate("", GenerateOptions(max_new_symbols=60))
    assert first.text + rest.text == whole.text
    assert fork.generate("", GenerateOptions(max_new_symbols=60)).text == rest.text
    assert client._backend.get_session(session.session_id, None).pattern == ""
    free = session.generate("", GenerateOptions(max_new_symbols=30))
    assert free.completion.finish_reason is FinishReason.LENGTH
    assert free.completion.is_match is None
    info = session.rewind(session.describe().marks[1])
    assert info.pattern == PATTERN
    assert session.generate("", GenerateOptions(max_new_symbols=60)).text == rest.text


def test_empty_pattern_drops_the_one_in_force(client: Client) -> None:
    first = client.generate("ab", replace(OPTIONS, max_new_symbols=5))
    dropped = client.generate(
        "", GenerateOptions(pattern="", max_new_symbols=60), capsule=first.capsule
    )
    assert dropped.completion.is_match is None
    other = client.generate(
        "", GenerateOptions(pattern="[gh]{3}", max_new_symbols=60), capsule=first.capsule
    )
    assert re.fullmatch("[gh]{3}", other.text)


def test_biases_stay_in_force_and_are_told(client: Client) -> None:
    bias = {"c": 2.5, "£": -float("inf")}
    session = client.start_session()
    session.generate("ab", GenerateOptions(logit_bias=bias, max_new_symbols=9))
    assert session.describe().logit_bias == bias
    assert "£" not in session.generate("", GenerateOptions(max_new_symbols=200)).text
    session.generate("", GenerateOptions(temperature=1.0, max_new_symbols=1))
    assert session.describe().logit_bias == {}


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (GenerateOptions(pattern="é"), r"pattern: has no match without 'é' \(U\+00E9\)"),
        (GenerateOptions(pattern="("), "pattern: is not a regular expression"),
        (GenerateOptions(pattern="a" * 2049), "pattern: has 2,049 bytes"),
        (GenerateOptions(pattern="a{0}"), "pattern: matches the empty text alone"),
        (
            GenerateOptions(pattern="a", json_schema="{}"),
            "json_schema: cannot be given together with a pattern",
        ),
        (
            GenerateOptions(pattern="ab", logit_bias={"b": -float("inf")}),
            "logit_bias: bans symbols without which the pattern has no match",
        ),
        (GenerateOptions(logit_bias={"ab": 1.0}), "logit_bias: must be of symbols"),
        (
            GenerateOptions(logit_bias={"a": 200.0}),
            "logit_bias: must be between -100 and 100, or -inf .*, got 200 for 'a'",
        ),
        (GenerateOptions(logit_bias={"a": float("nan")}), "logit_bias: must be between"),
        (
            GenerateOptions(logit_bias=dict.fromkeys(TINY_SYMBOLS, -float("inf"))),
            "logit_bias: bans all symbols",
        ),
        (
            GenerateOptions(logit_bias={chr(k): 1.0 for k in range(1025)}),
            "logit_bias: must be of at most 1,024 symbols",
        ),
    ],
)
def test_bad_input_is_named_wherever_the_model_runs(
    client: Client, local: LocalModel, options: GenerateOptions, problem: str
) -> None:
    for model in (client, local):
        with pytest.raises(InputError, match=problem):
            model.generate("ab", options)


def test_new_pattern_waits_for_what_is_held(client: Client) -> None:
    options = GenerateOptions(pattern="a{9}", stop=("aaaax",), seed=1, max_new_symbols=9)
    pieces = client.stream("", replace(options, capsules=Capsules.EVERY_CHUNK))
    first = next(pieces)
    pieces.close()
    if first.completion is None:
        with pytest.raises(InputError, match="symbols were generated earlier and not yet"):
            client.generate("", GenerateOptions(pattern="b"), capsule=first.capsule)


def test_model_of_records_ends_its_matches_itself(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint("gru")
    form = TextForm(unit="record")
    checkpoint = replace(checkpoint, vocabulary=checkpoint.vocabulary.with_form(form))
    export_briefly(checkpoint, tmp_path / "bundle")
    with load(tmp_path / "bundle") as model:
        lengths = set()
        for seed in range(30):
            options = GenerateOptions(pattern="[a-d]{2,40}", seed=seed, temperature=2.0)
            answer = model.generate("", options)
            assert re.fullmatch("[a-d]{2,40}", answer.text)
            assert answer.completion.is_match is True
            is_full = len(answer.text) == 40
            expected = FinishReason.PATTERN if is_full else FinishReason.STOP
            assert answer.completion.finish_reason is expected
            lengths.add(len(answer.text))
            again = model.generate("", GenerateOptions(), capsule=answer.capsule)
            assert again.completion.is_match is None, "the match is over, and so is the pattern"
    assert len(lengths) > 5, "the model chooses where"


def test_request_that_only_reads_leaves_the_pattern_where_it_is(client: Client) -> None:
    whole = client.generate("ab", replace(OPTIONS, max_new_symbols=60))
    first = client.generate("ab", replace(OPTIONS, max_new_symbols=5))
    read = client.generate("a", GenerateOptions(max_new_symbols=0), capsule=first.capsule)
    assert read.completion.is_match is False
    rest = client.generate("", GenerateOptions(max_new_symbols=60), capsule=read.capsule)
    assert re.fullmatch(PATTERN, first.text + rest.text)
    assert whole.text[:5] == first.text


def test_command_line_takes_patterns_schemas_and_biases(
    tiny_bundles: dict[Cell, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--bundle", str(tiny_bundles["gru"]), "--prompt", "ab", "--seed", "11"]
    biases = ["--logit-bias", "c=2.5", "--logit-bias", "d=-inf"]
    with pytest.raises(SystemExit, match="0"):
        generate([*common, "--pattern", PATTERN, *biases])
    out, err = capsys.readouterr()
    assert re.fullmatch(PATTERN + "\n", out)
    assert "d" not in out
    assert "ended by pattern" in err
    schema = tmp_path / "schema.json"
    schema.write_text('{"enum": [1]}', encoding="utf-8")
    with pytest.raises(SystemExit, match="2"):
        generate([*common, "--json-schema", str(schema)])
    assert "--json-schema: has no match without '1'" in capsys.readouterr().err


def test_stream_that_is_resumed_sends_no_pattern_again() -> None:
    resumption = Resumption("ab", OPTIONS, Origin(), target_count=1, timeout=None)
    assert resumption.request.pattern == PATTERN
    resumption.take(pb.StreamGenerateResponse(text="aba", capsule=b"capsule"))
    resumption.break_off(UnavailableError("gone"))
    assert not resumption.request.HasField("pattern")
    assert resumption.request.capsule == b"capsule"
    assert resumption.request.max_new_symbols == 57
