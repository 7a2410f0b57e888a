"""A model of several networks, served: it is told, it says what torch says, and it moves."""

from pathlib import Path

import pytest
import torch

from tests.conftest import export_briefly, tiny_checkpoint
from tests.serving.running import serve
from training.run.checkpoint import Checkpoint
from unroll.options import GenerateOptions, InspectOptions
from unroll.results import Unit
from unroll.terms import UnitKind

pytestmark = pytest.mark.slow

TEXT = "abc deaf £ch\nabba " * 5


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return tiny_checkpoint("lstm", layers=2, members=3)


@pytest.fixture(scope="module")
def bundle(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("members") / "bundle"
    export_briefly(checkpoint, folder)
    return str(folder)


def test_score_is_that_of_torch_and_the_model_tells_how_many_networks_it_is(
    checkpoint: Checkpoint, bundle: str
) -> None:
    model, vocabulary = checkpoint.model(), checkpoint.vocabulary
    ids = torch.from_numpy(vocabulary.encode(vocabulary.start_symbol + TEXT))
    with torch.no_grad():
        logits, _ = model(ids[:-1, None], model.zero_state(1))
    expected = torch.log_softmax(logits[:, 0], -1)[torch.arange(len(TEXT)), ids[1:]]
    with serve(bundle) as server, server.client() as client:
        told = client.get_model()
        found = torch.tensor(client.score(TEXT).log_probs)
    assert (told.members, told.layers, told.hidden_size) == (3, 2, 7)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_units_of_each_network_are_torchs(checkpoint: Checkpoint, bundle: str) -> None:
    model, vocabulary = checkpoint.model(), checkpoint.vocabulary
    ids = torch.from_numpy(vocabulary.encode(vocabulary.start_symbol + TEXT))
    units = [
        Unit(member=member, layer=layer, index=6, kind=kind)
        for member in range(3)
        for layer in range(2)
        for kind in UnitKind
    ]
    with torch.no_grad():
        _, state = model(ids[:, None], model.zero_state(1))
    with serve(bundle) as server, server.client() as client:
        shown = client.inspect(TEXT, InspectOptions(units=tuple(units))).units
        best = client.find_units(TEXT, [symbol == "a" for symbol in TEXT]).units[0]
        (values,) = client.inspect(TEXT, InspectOptions(units=(best.unit,))).units
    for unit, along in zip(units, shown, strict=True):
        last = state[unit.kind.value][2 * unit.member + unit.layer, 0, 6]
        assert along[-1] == pytest.approx(float(last), abs=1e-5)
    where = [value for value, symbol in zip(values, TEXT, strict=True) if symbol == "a"]
    elsewhere = [value for value, symbol in zip(values, TEXT, strict=True) if symbol != "a"]
    higher = sum((a > b) + (a == b) / 2 for a in where for b in elsewhere)
    higher /= len(where) * len(elsewhere)
    assert best.score == pytest.approx(1 - higher if best.falls else higher)


def test_a_text_goes_on_at_another_server_bit_for_bit(bundle: str, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("5a" * 32, encoding="ascii")
    keys = {"capsule_keys": tmp_path / "keys"}

    def options(symbols: int) -> GenerateOptions:
        return GenerateOptions(max_new_symbols=symbols, seed=3, log_probs=True)

    with serve(bundle, **keys) as first, first.client() as client:
        whole = client.generate("abc", options(60))
        begun = client.generate("abc", options(25))
    capsule = begun.capsule
    with serve(bundle, **keys) as second, second.client() as client:
        rest = client.generate(
            "", GenerateOptions(max_new_symbols=35, log_probs=True), capsule=capsule
        )
    assert begun.text + rest.text == whole.text
    assert [*begun.log_probs, *rest.log_probs] == list(whole.log_probs)
