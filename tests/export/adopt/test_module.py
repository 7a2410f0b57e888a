"""Models of other people, alive: what is adopted says what they say, or the reason is named."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from export.adopt.adopt import adopt
from export.adopt.written import Adoption
from export.compiler import export
from serving.local.model import load
from tests.export.adopt import strangers, student
from training.run.checkpoint import load_checkpoint
from unroll.errors import AdoptionError, CorpusError
from unroll.options import GenerateOptions

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("brief_proofs")]

SYMBOLS = "\n abcdefghij"  # V = 12
V = len(SYMBOLS)
STUDENT: Any = student.RNN

Make = Callable[[], nn.Module]
# Each with the way in which it must be called, and its cell.
ADOPTED: dict[str, tuple[Make, str, str]] = {
    "student": (lambda: STUDENT(V, V, 5, 7, 3), "tokens (T, 1), None", "rnn_relu"),
    "char-rnn": (lambda: strangers.CharRNN(SYMBOLS), "one-hot tokens (1, T), None", "lstm"),
    "nanoGPT": (lambda: strangers.NanoRNN(V), "tokens (1, T), targets", "gru"),
    "a step a call": (lambda: strangers.StepRNN(V), "one token (1,) after another, None", "gru"),
    "cells": (lambda: strangers.CellRNN(V), "tokens (1, T)", "lstm"),
    "tanh": (lambda: strangers.PlainRNN(V), "tokens (T, 1)", "rnn_tanh"),
    "relu, batch first": (
        lambda: strangers.PlainRNN(V, nonlinearity="relu", batch_first=True, num_layers=2),
        "tokens (1, T)",
        "rnn_relu",
    ),
    "no biases": (lambda: strangers.PlainRNN(V, nn.LSTM, bias=False), "tokens (T, 1)", "lstm"),
    "as wide as its embedding": (
        lambda: strangers.PlainRNN(V, nn.GRU, E=7),
        "tokens (T, 1)",
        "gru",
    ),
    "parallel": (lambda: nn.DataParallel(strangers.PlainRNN(V, nn.GRU)), "tokens (T, 1)", "gru"),
    "compiled": (
        lambda: cast(nn.Module, torch.compile(strangers.PlainRNN(V, nn.GRU), backend="eager")),
        "tokens (T, 1)",
        "gru",
    ),
    "kept state": (
        lambda: strangers.KeepsState(V, nn.GRU, batch_first=True),
        "tokens (1, T)",
        "gru",
    ),
    "one-hot, linear": (
        lambda: strangers.ReadsOneHot(V),
        "one-hot tokens (T, 1), h, c",
        "lstm",
    ),
    "half": (lambda: strangers.PlainRNN(V, nn.GRU).bfloat16(), "tokens (T, 1)", "gru"),
}


def made(make: Make) -> nn.Module:
    """Make a model whose texts are neither flat nor stuck."""
    with torch.random.fork_rng():
        torch.manual_seed(6)
        module = make()
        with torch.no_grad():
            for name, weight in module.named_parameters():
                if "rnn" not in name and "gru" not in name and "lstm" not in name:
                    weight.mul_(2)
    return module


@pytest.mark.parametrize(("make", "way", "cell"), ADOPTED.values(), ids=ADOPTED)
def test_what_is_adopted_says_what_theirs_says(
    make: Make, way: str, cell: str, tmp_path: Path
) -> None:
    module = made(make)
    adoption = adopt(module, SYMBOLS, tmp_path / "mine")
    assert (adoption.proof.symbols, adoption.proof.way) == (1000, way)
    assert adoption.proof.difference < 1e-5, adoption.proof
    assert adoption.model.cell == cell
    assert all(each.training for each in module.modules()), "it was changed"
    assert getattr(module, "hidden", None) is None, "it was changed"
    loaded = load_checkpoint(adoption.checkpoint)
    assert (loaded.vocabulary.symbols, loaded.vocabulary.start_symbol) == (SYMBOLS, "\n")
    assert loaded.is_adopted
    assert loaded.doubt is None


# Their logits after each of a text's symbols, (T, V).
READ: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "student": lambda m, ids: m(ids[:, None], None)[0][:, 0],
    "char-rnn": lambda m, ids: m(nn.functional.one_hot(ids[None], V).float(), None)[0],
    "nanoGPT": lambda m, ids: m(ids[None], ids[None])[0][0],
}


@pytest.mark.parametrize("name", READ)
def test_exported_model_writes_with_their_probabilities(name: str, tmp_path: Path) -> None:
    module = made(ADOPTED[name][0])
    adoption = adopt(module, SYMBOLS, tmp_path / "mine")
    bundle = export(load_checkpoint(adoption.checkpoint), tmp_path / "bundle")
    assert bundle.manifest.training.training_loss is None
    options = GenerateOptions(max_new_symbols=300, seed=4, log_probs=True)
    with load(tmp_path / "bundle") as model:
        written = model.generate("", options)
        assert model.score(written.text).log_probs == pytest.approx(written.log_probs, abs=1e-5)
    ids = torch.tensor([SYMBOLS.index(symbol) for symbol in "\n" + written.text])
    with torch.no_grad():
        theirs = torch.log_softmax(READ[name](module.eval(), ids[:-1]), -1)
    of_text = theirs[torch.arange(300), ids[1:]]
    assert written.log_probs == pytest.approx(of_text.tolist(), abs=1e-4)
    assert len(set(written.text)) > 5


REFUSED: dict[str, tuple[Make, str]] = {
    "bidirectional": (
        lambda: strangers.PlainRNN(V, nn.GRU, bidirectional=True),
        r"rnn\.weight_ih_l0_reverse: the layers are bidirectional.*bidirectional=False",
    ),
    "projections": (
        lambda: strangers.PlainRNN(V, nn.LSTM, proj_size=3),
        r"rnn\.weight_hr_l0: the LSTM has projections.*proj_size=0",
    ),
    "attention": (
        lambda: strangers.Attentive(V),
        r"attn\.in_proj_weight \(21, 7\): is of an attention.*the same model without it",
    ),
    "convolution": (
        lambda: strangers.Convolved(V),
        r"conv1\.weight \(5, 5, 3\): is of a convolution; the nearest is an embedding",
    ),
    "normalisation": (
        lambda: strangers.Normalised(V),
        r"ln_f\.weight \(7,\): is of a normalisation.*trained without it",
    ),
    "several": (
        lambda: strangers.Twofold(V),
        r"rnn, rnn2: several recurrent modules.*num_layers=2",
    ),
    "two linear layers": (
        lambda: strangers.Deep(V),
        r"hidden\.weight \(7, 7\), hidden\.bias \(7,\): has no place.*--map",
    ),
    "transformer": (
        lambda: strangers.Transformer(V),
        r"block\.self_attn\.in_proj_weight .*attention layer.*unroll train --cell gru",
    ),
    "no layer": (lambda: nn.Sequential(nn.Embedding(V, 5), nn.Linear(5, V)), "no recurrent layer"),
    "no weights": (nn.Tanh, "Tanh has no weights"),
    "hidden activation": (
        lambda: strangers.Squashed(V, nn.GRU),
        r"Squashed is not embedding \+ gru \+ decoder alone: called as tokens \(T, 1\), .*apart.*"
        "an activation.*pass run=",
    ),
    "too few symbols": (
        lambda: strangers.PlainRNN(V + 1, nn.GRU),
        "vocabulary: has 12 symbols, the decoder writes 13",
    ),
}


@pytest.mark.parametrize(("make", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_adopted_is_named_with_the_nearest(
    make: Make, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(AdoptionError, match=f"(?s){reason}"):
        adopt(made(make), SYMBOLS, tmp_path / "mine")
    assert not (tmp_path / "mine").exists()


def test_a_module_may_be_called_by_its_owner(tmp_path: Path) -> None:
    odd = made(lambda: strangers.Odd(V, nn.GRU))
    with pytest.raises(AdoptionError, match=r"cannot be called in any way.*pass run="):
        adopt(odd, SYMBOLS, tmp_path / "mine")

    def run(tokens: Tensor) -> Any:
        return odd(tokens[:, None], 1.0, verbose=False)["logits"][:, 0]

    assert adopt(odd, SYMBOLS, tmp_path / "mine", run=run).proof.way == "run="
    with pytest.raises(AdoptionError, match="differs from theirs, called as run="):
        adopt(odd, SYMBOLS, tmp_path / "mine", run=lambda tokens: run(tokens) * 1.01)


@pytest.mark.parametrize(
    "vocabulary",
    [
        SYMBOLS,
        list(SYMBOLS),
        {symbol: place for place, symbol in enumerate(SYMBOLS)},
        dict(enumerate(SYMBOLS)),
        {str(place): symbol for place, symbol in enumerate(SYMBOLS)},
    ],
    ids=["text", "list", "ids of symbols", "symbols of ids", "ids in quotes"],
)
def test_a_vocabulary_may_be_told_in_many_ways(vocabulary: Any, tmp_path: Path) -> None:
    module = made(lambda: strangers.PlainRNN(V, nn.GRU))
    adoption = adopt(module, vocabulary, tmp_path / "mine", start_symbol="c")
    loaded = load_checkpoint(adoption.checkpoint).vocabulary
    assert (loaded.symbols, loaded.start_symbol) == (SYMBOLS, "c")


@pytest.mark.parametrize(
    ("vocabulary", "reason"),
    [
        (["<pad>", *SYMBOLS[1:]], r"id 0 is '<pad>', which is not one code point.*U\+E000"),
        ({"a": 0, "b": 2}, "2 symbols, but id 1 is given to none"),
        ({"a": 0, "b": 0}, "2 symbols, but id 1 is given to none"),
        ("aab", "vocabulary: has 3 symbols, the decoder writes 12"),
        ([*SYMBOLS[:-1], "a"], "each symbol must occur once; repeated: "),
        (7, "vocabulary: must be symbols"),
        ("", "vocabulary: must be symbols"),
    ],
)
def test_a_wrong_vocabulary_is_named(vocabulary: Any, reason: str, tmp_path: Path) -> None:
    with pytest.raises(AdoptionError, match=reason):
        adopt(made(lambda: strangers.PlainRNN(V, nn.GRU)), vocabulary, tmp_path / "mine")


def test_a_text_is_measured_and_kept_for_int8(tmp_path: Path) -> None:
    module = made(lambda: strangers.PlainRNN(V, nn.GRU))
    text = tmp_path / "text.txt"
    text.write_text("bad cab\n" * 400, encoding="utf-8")
    adoption = adopt(module, SYMBOLS, tmp_path / "mine", corpus=text)
    assert adoption.loss is not None
    assert adoption.loss > 1
    settings = load_checkpoint(adoption.checkpoint).training_settings
    assert settings.corpus == str(text)
    text.write_text("bad cub\n", encoding="utf-8")
    with pytest.raises(CorpusError, match=r"1 of its 7 different symbols are not .*'u'"):
        adopt(module, SYMBOLS, tmp_path / "other", corpus=text)


def test_a_trained_run_is_not_overwritten(tmp_path: Path) -> None:
    from tests.conftest import tiny_checkpoint
    from training.run.checkpoint import save_checkpoint

    def again() -> Adoption:
        return adopt(made(lambda: strangers.PlainRNN(V, nn.GRU)), SYMBOLS, tmp_path / "mine")

    again()
    again()
    save_checkpoint(tiny_checkpoint("gru"), tmp_path / "mine" / "best.safetensors")
    with pytest.raises(AdoptionError, match="holds a model that was trained there"):
        again()
