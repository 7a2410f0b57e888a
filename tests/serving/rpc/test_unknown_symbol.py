"""A model with a symbol for unknown ones reads it at every door, and never writes it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from export.graph.arithmetic import Precision
from export.proof.quality import Texts
from serving.local.model import load
from tests.conftest import export_briefly, tiny_checkpoint
from tests.serving.running import serve
from unroll.bundle.folder import load_bundle
from unroll.bundle.vocabulary import Vocabulary
from unroll.client.client import Client
from unroll.errors import UnknownSymbolError
from unroll.options import GenerateOptions, ScoreOptions
from unroll.terms import UnknownSymbols

KNOWN, UNKNOWN = "\n abcdefgh", "\ufffd"
SAMPLINGS = [
    {},
    {"temperature": 0.0},
    {"temperature": 0.1},
    {"top_k": 3},
    {"top_k": len(KNOWN) + 1},
    {"top_p": 0.9},
    {"min_p": 0.1, "temperature": 2.0},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundles whose model is sure that an unknown symbol comes next: `with`, and `without` one."""
    folder, checkpoint = tmp_path_factory.mktemp("unknown"), tiny_checkpoint("lstm")
    checkpoint.weights["decoder.bias"][-1] = 12.0
    known = Vocabulary(KNOWN + UNKNOWN, "\n")
    export_briefly(replace(checkpoint, vocabulary=known), folder / "without")
    vocabulary = Vocabulary(KNOWN + UNKNOWN, "\n", unknown_symbol=UNKNOWN)
    export_briefly(replace(checkpoint, vocabulary=vocabulary), folder / "with")
    return folder


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[Client]:
    with serve(str(folder / "with"), str(folder / "without")) as server, server.client() as client:
        yield client


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_it_is_never_drawn_however_likely(client: Client, sampling: dict[str, float]) -> None:
    asked = GenerateOptions(max_new_symbols=300, seed=3, log_probs=True, **sampling)  # type: ignore[arg-type]
    text = client.generate("ab", asked)
    assert len(text.text) == 300
    assert UNKNOWN not in text.text
    assert max(text.log_probs) < -5  # they are the model's, which gives it nearly everything


def test_without_it_that_symbol_is_like_any_other(client: Client) -> None:
    asked = GenerateOptions(model="without", max_new_symbols=300, seed=3)
    assert client.generate("ab", asked).text.count(UNKNOWN) > 250
    with pytest.raises(UnknownSymbolError):
        client.generate("a☃", asked)


def test_what_is_outside_the_vocabulary_is_read_as_unknown(client: Client) -> None:
    asked = GenerateOptions(max_new_symbols=50, seed=3)
    assert client.generate("a☃b", asked).text == client.generate(f"a{UNKNOWN}b", asked).text
    scored, expected = client.score("a☃b漢"), client.score(f"a{UNKNOWN}b{UNKNOWN}")
    assert scored.log_probs == expected.log_probs
    assert scored.log_probs[1] > -0.1
    skipped = client.score("a☃b", ScoreOptions(unknown_symbols=UnknownSymbols.SKIP))
    assert len(skipped.log_probs) == 2
    assert skipped.usage.unknown_symbols == 1


def test_the_model_says_that_it_has_one(client: Client, folder: Path) -> None:
    assert client.get_model("with").unknown_symbol == UNKNOWN
    assert client.get_model("without").unknown_symbol == ""
    with load(folder / "with") as model:
        assert model.get_model().unknown_symbol == UNKNOWN
        asked = GenerateOptions(max_new_symbols=50, seed=3)
        assert model.generate("a☃b", asked).text == client.generate("a☃b", asked).text


def test_it_is_part_of_what_the_text_depends_on(folder: Path) -> None:
    one, other = (load_bundle(folder / name).manifest for name in ("with", "without"))
    assert one.unknown_symbol == UNKNOWN
    assert one.fingerprint != other.fingerprint


def test_in_8_bits_it_is_not_drawn_either(folder: Path, tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint("gru")
    checkpoint.weights["decoder.bias"][-1] = 9.0
    vocabulary = Vocabulary(KNOWN + UNKNOWN, "\n", unknown_symbol=UNKNOWN)
    ids = torch.randint(0, len(vocabulary), (4000,), generator=torch.Generator().manual_seed(1))
    texts = Texts(training=ids.numpy(), validation=ids.numpy()[:1000])
    checkpoint = replace(checkpoint, vocabulary=vocabulary)
    export_briefly(checkpoint, tmp_path / "int8", precision=Precision.INT8, texts=texts)
    with load(tmp_path / "int8") as model:
        assert UNKNOWN not in model.generate("", GenerateOptions(max_new_symbols=500, seed=1)).text
