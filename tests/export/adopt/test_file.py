"""Models from files: what is in a state_dict suffices, and nothing is unpickled."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import Tensor, nn

from export.adopt.adopt import adopt_file
from export.adopt.written import Adoption
from tests.export.adopt import strangers
from tests.export.adopt.test_module import SYMBOLS, V, made
from training.run.checkpoint import load_checkpoint
from unroll.errors import AdoptionError, CorpusError

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("brief_proofs")]

Weights = dict[str, Tensor]


@pytest.fixture
def vocabulary(tmp_path: Path) -> Path:
    path = tmp_path / "vocabulary.json"
    path.write_text(json.dumps(list(SYMBOLS)), encoding="utf-8")
    return path


def adopt(saved: object, vocabulary: Path, **options: Any) -> Adoption:
    """Save what a program saves, and adopt it."""
    file = vocabulary.with_name("model.pt")
    torch.save(saved, file)
    return adopt_file(file, vocabulary, vocabulary.with_name("mine"), **options)


def gru() -> nn.Module:
    return made(lambda: strangers.PlainRNN(V, nn.GRU, num_layers=2))


def same(adoption: Adoption, module: nn.Module, read: Callable[[Tensor], Tensor]) -> bool:
    """Tell whether a checkpoint gives the logits of a module, (T, V)."""
    model, ids = load_checkpoint(adoption.checkpoint).model(), torch.arange(200) * 7 % V
    module.eval()
    with torch.no_grad():
        ours = model(ids[:, None], model.zero_state(1))[0][:, 0]
        return torch.allclose(ours, read(ids), atol=1e-5)


def test_proof_is_with_torchs_modules(vocabulary: Path) -> None:
    module = gru()
    adoption = adopt(module.state_dict(), vocabulary)
    assert adoption.proof.symbols == 1000
    assert adoption.proof.difference < 1e-5
    assert adoption.proof.way == "torch's modules of the same weights"
    assert adoption.names == {
        "embedding": "embed.weight",
        "recurrent": "rnn",
        "decoder": "head.weight",
    }
    assert same(adoption, module, lambda ids: module(ids[:, None])[:, 0])


SAVED: dict[str, Callable[[Weights], object]] = {
    "beside an optimizer": lambda w: {"model": w, "optimizer": {"lr": 0.1}, "iter_num": 7},
    "in Lightning's manner": lambda w: {
        "state_dict": {f"net.{name}": tensor for name, tensor in w.items()},
        "epoch": 3,
    },
    "compiled and parallel": lambda w: {
        f"_orig_mod.module.{name}": tensor for name, tensor in w.items()
    },
    "in half": lambda w: {name: tensor.half() for name, tensor in w.items()},
}


@pytest.mark.parametrize("wrap", SAVED.values(), ids=SAVED)
def test_weights_are_found_in_what_was_saved(
    wrap: Callable[[Weights], object], vocabulary: Path
) -> None:
    module = gru().half().float()  # numbers that half holds exactly
    adoption = adopt(wrap(module.state_dict()), vocabulary)
    assert same(adoption, module, lambda ids: module(ids[:, None])[:, 0])


def test_safetensors_with_tied_weights_written_once(vocabulary: Path, tmp_path: Path) -> None:
    module = made(lambda: strangers.NanoRNN(V))
    save_model(module, str(tmp_path / "nano.safetensors"))
    adoption = adopt_file(tmp_path / "nano.safetensors", vocabulary, tmp_path / "mine")
    assert adoption.names["embedding"] == adoption.names["decoder"]
    assert same(adoption, module, lambda ids: module(ids[None], ids[None])[0][0])


def test_one_hot_symbols_have_the_identity_as_embedding(vocabulary: Path) -> None:
    module = made(lambda: strangers.CharRNN(SYMBOLS))
    adoption = adopt(module.state_dict(), vocabulary)
    weights = load_checkpoint(adoption.checkpoint).weights
    assert torch.equal(weights["embedding.weight"], torch.eye(V))
    one_hot = nn.functional.one_hot
    assert same(adoption, module, lambda ids: module(one_hot(ids[None], V).float(), None)[0])


def test_names_that_tell_nothing_are_mapped(vocabulary: Path) -> None:
    module = made(lambda: strangers.PlainRNN(V, nn.GRU, E=7))
    roles = {"embed": "a", "rnn": "b", "head": "c"}
    odd = {
        f"{roles[name.split('.')[0]]}.{name.split('.', 1)[1]}": tensor
        for name, tensor in module.state_dict().items()
    }
    with pytest.raises(AdoptionError, match=r"a\.weight .*--map"):
        adopt(odd, vocabulary)
    adoption = adopt(odd, vocabulary, renamed=["a=embedding", "c=decoder"])
    assert same(adoption, module, lambda ids: module(ids[:, None])[:, 0])
    by_hand = {
        "x.W": odd["a.weight"],
        "i2h": odd["b.weight_ih_l0"],
        "h2h": odd["b.weight_hh_l0"],
        "h2o": odd["c.weight"],
    }
    mapped = [
        "x.W=embedding.weight", "i2h=recurrent.weight_ih_l0", "h2h=recurrent.weight_hh_l0",
        "h2o=decoder.weight",
    ]  # fmt: skip
    assert adopt(by_hand, vocabulary, renamed=mapped).model.cell == "gru"
    with pytest.raises(AdoptionError, match="map = 'd=decoder': no weight has that name"):
        adopt(odd, vocabulary, renamed=["d=decoder"])
    with pytest.raises(AdoptionError, match="map = 'a=lookup': must be THEIRS=OURS"):
        adopt(odd, vocabulary, renamed=["a=lookup"])


def test_nonlinearity_must_be_told(vocabulary: Path) -> None:
    module = made(lambda: strangers.PlainRNN(V, nonlinearity="relu"))
    with pytest.raises(AdoptionError, match=r"--nonlinearity tanh .* or --nonlinearity relu"):
        adopt(module.state_dict(), vocabulary)
    adoption = adopt(module.state_dict(), vocabulary, nonlinearity="relu")
    assert adoption.model.cell == "rnn_relu"
    with pytest.raises(AdoptionError, match="weights are of a GRU, which has none to choose"):
        adopt(gru().state_dict(), vocabulary, nonlinearity="relu")
    assert same(adoption, module, lambda ids: module(ids[:, None])[:, 0])


class Trap:
    """What runs code when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("as_zip", [True, False], ids=["torch.save", "pickle"])
def test_nothing_is_unpickled(vocabulary: Path, tmp_path: Path, *, as_zip: bool) -> None:
    mark, file = tmp_path / "mark", tmp_path / "model.pt"
    if as_zip:
        torch.save({"model": gru().state_dict(), "trap": Trap(mark)}, file)
    else:
        file.write_bytes(pickle.dumps(Trap(mark)))
    with pytest.raises(
        AdoptionError, match=r"never unpickled here.*torch\.save\(model\.state_dict"
    ):
        adopt_file(file, vocabulary, tmp_path / "mine")
    assert not mark.exists()


def test_a_whole_model_that_was_pickled_is_refused(vocabulary: Path) -> None:
    with pytest.raises(AdoptionError, match="never unpickled here"):
        adopt(gru(), vocabulary)


def test_files_that_are_none_are_named(vocabulary: Path, tmp_path: Path) -> None:
    with pytest.raises(AdoptionError, match="no such file"):
        adopt_file(tmp_path / "none.pt", vocabulary, tmp_path / "mine")
    (tmp_path / "text.safetensors").write_text("not weights", encoding="utf-8")
    with pytest.raises(AdoptionError, match="not a whole safetensors file"):
        adopt_file(tmp_path / "text.safetensors", vocabulary, tmp_path / "mine")
    (tmp_path / "cut.pt").write_bytes(b"PK\x03\x04")
    with pytest.raises(AdoptionError, match=r"cut\.pt"):
        adopt_file(tmp_path / "cut.pt", vocabulary, tmp_path / "mine")
    with pytest.raises(AdoptionError, match="holds no state_dict, but lr, epoch"):
        adopt({"lr": 0.1, "epoch": 3}, vocabulary)
    torn = {n: t for n, t in gru().state_dict().items() if n != "rnn.weight_hh_l1"}
    with pytest.raises(AdoptionError, match="layer 1 has no weight_hh"):
        adopt(torn, vocabulary)
    exploded = gru().state_dict()
    exploded["head.bias"][3] = torch.nan
    with pytest.raises(AdoptionError, match=r"decoder\.bias: holds numbers that are not finite"):
        adopt(exploded, vocabulary)
    uneven = gru().state_dict() | {
        "rnn.weight_hh_l1": torch.zeros(15, 5),
        "rnn.weight_ih_l1": torch.zeros(15, 7),
    }
    with pytest.raises(AdoptionError, match="layers must be of one size"):
        adopt(uneven, vocabulary)


@pytest.mark.parametrize(
    ("name", "text", "symbols"),
    [
        ("list.json", json.dumps(["c", "a", "b"]), "cab"),
        ("ids.json", json.dumps({"a": 1, "b": 2, "c": 0}), "cab"),
        ("symbols.json", json.dumps({"0": "c", "1": "a", "2": "b"}), "cab"),
        ("digits.json", json.dumps({"1": 0, "0": 1, "2": 2}), "102"),
        ("listed.txt", "cab", "cab"),
        ("corpus.txt", "abcabca", "abc"),
    ],
)
def test_vocabulary_in_a_file(name: str, text: str, symbols: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_text(text, encoding="utf-8")
    module = made(lambda: strangers.PlainRNN(3, nn.GRU))
    adoption = adopt(module.state_dict(), file)
    checkpoint = load_checkpoint(adoption.checkpoint)
    assert checkpoint.vocabulary.symbols == symbols
    is_text = name == "corpus.txt"
    assert checkpoint.training_settings.corpus == (str(file) if is_text else "")
    assert (len(checkpoint.corpus_sha256) == 64) is is_text


def test_another_encoding_is_named(tmp_path: Path) -> None:
    file = tmp_path / "corpus.txt"
    file.write_bytes("né é né\n".encode())  # "\n", " ", n, é; in cp1252 é is two
    module = made(lambda: strangers.PlainRNN(5, nn.GRU))
    expected = r"has 4 symbols, the decoder writes 5; it has 5 with --encoding .*cp1252"
    with pytest.raises(AdoptionError, match=expected):
        adopt(module.state_dict(), file)
    adoption = adopt(module.state_dict(), file, encoding="cp1252")
    assert load_checkpoint(adoption.checkpoint).vocabulary.symbols == "\n n©Ã"


@pytest.mark.parametrize("name", ["vocabulary.json", "vocabulary.txt"])
def test_encodings_of_a_vocabulary_are_advised(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_bytes('["n", "é", "ï"]'.encode("cp1252"))
    advised = r"bytes e9 22 2c 20 at offset 7 are not utf-8; --encoding worth trying: .*cp1252"
    with pytest.raises(CorpusError, match=advised):
        adopt(gru().state_dict(), file)


def test_vocabulary_in_json_has_its_encoding_and_its_mark(tmp_path: Path) -> None:
    file = tmp_path / "vocabulary.json"
    module = made(lambda: strangers.PlainRNN(3, nn.GRU))
    for encoding in ("cp1252", "utf-16", "utf-8-sig"):
        file.write_bytes('["n", "é", "ï"]'.encode(encoding))
        adoption = adopt(module.state_dict(), file, encoding=encoding.removesuffix("-sig"))
        assert load_checkpoint(adoption.checkpoint).vocabulary.symbols == "néï"


def test_size_that_no_encoding_gives_is_told(tmp_path: Path) -> None:
    file = tmp_path / "corpus.txt"
    file.write_text("abcabca", "utf-8")
    with pytest.raises(AdoptionError, match="no other encoding of its text gives"):
        adopt(gru().state_dict(), file)


def test_vocabulary_that_is_none_is_named(tmp_path: Path) -> None:
    file = tmp_path / "vocabulary.json"
    file.write_text("[1, 2", encoding="utf-8")
    with pytest.raises(AdoptionError, match="cannot be read as JSON"):
        adopt(gru().state_dict(), file)
    empty = tmp_path / "empty.txt"
    empty.touch()
    with pytest.raises(CorpusError, match="the text is empty"):
        adopt(gru().state_dict(), empty)


def test_safetensors_are_read_as_they_are(vocabulary: Path, tmp_path: Path) -> None:
    save_file(gru().state_dict(), tmp_path / "mine.safetensors")
    made_of = adopt_file(tmp_path / "mine.safetensors", vocabulary, tmp_path / "first")
    again = adopt(gru().state_dict(), vocabulary)
    first, second = (load_checkpoint(each.checkpoint).weights for each in (made_of, again))
    assert all(torch.equal(first[name], second[name]) for name in first)
