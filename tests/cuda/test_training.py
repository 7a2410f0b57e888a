"""Training on CUDA: cuDNN's layers in every precision, equal to the CPU's, resumable."""

import warnings
from pathlib import Path

import pytest
import torch

from tests.needed import without
from tests.training.test_command import call, command
from training.model.cudnn import require_cudnn
from training.model.device import Precision, apply_precision
from training.model.model import CELLS, CharRNN, ModelSettings
from training.run.checkpoint import load_checkpoint
from training.settings import Cell
from unroll.errors import DeviceError

pytestmark = [pytest.mark.cuda, pytest.mark.usefixtures("device")]

# fp32 with TF32 off: sums of a few products in another order.
CLOSE = 1e-4


@pytest.fixture(scope="module")
def device() -> None:
    """Go on only where torch has a CUDA device."""
    if not torch.cuda.is_available():
        without("torch finds no CUDA device", "REQUIRE_CUDA")


def model_of(cell: Cell, *, weight_dropout: float = 0.0) -> CharRNN:
    torch.manual_seed(25)
    sizes = {"vocabulary_size": 11, "embedding_size": 3, "hidden_size": 5, "layers": 2}
    return CharRNN(ModelSettings(cell=cell, weight_dropout=weight_dropout, **sizes))


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
@pytest.mark.parametrize("cell", CELLS)
def test_cudnns_layers_run_on_weights_that_lie_in_one_piece(
    cell: Cell, precision: Precision
) -> None:
    apply_precision(precision)
    model = model_of(cell).to("cuda")
    model.precision = precision
    with warnings.catch_warnings():
        if precision == "bf16":  # rounded weights are new tensors
            warnings.filterwarnings("ignore", "RNN module weights")
        require_cudnn(model, 7)
        outputs, _ = model._run_torch(
            model.networks[0], torch.zeros((3, 7), dtype=torch.int64).cuda(), _zero(model)
        )
    assert outputs.dtype == (torch.bfloat16 if precision == "bf16" else torch.float32)


def _zero(model: CharRNN) -> dict[str, torch.Tensor]:
    return model.zero_state(7)


def test_cudnn_switched_off_is_refused() -> None:
    with torch.backends.cudnn.flags(enabled=False), pytest.raises(DeviceError, match="did not run"):
        require_cudnn(model_of("gru").to("cuda"), 7)


@pytest.mark.parametrize("cell", CELLS)
def test_gradients_are_the_cpus(cell: Cell) -> None:
    apply_precision("fp32")
    tokens = torch.randint(11, (13, 7))
    gradients = []
    for place in ("cpu", "cuda"):
        model = model_of(cell).to(place)
        logits, _ = model(tokens.to(place), model.zero_state(7))
        torch.nn.functional.cross_entropy(
            logits[:-1].flatten(0, 1), tokens[1:].flatten().to(place)
        ).backward()  # type: ignore[no-untyped-call]
        gradients.append(
            {n: w.grad.cpu() for n, w in model.named_parameters() if w.grad is not None}
        )
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=0, atol=CLOSE)


def test_the_same_training_twice_gives_the_same_weights(tmp_path: Path) -> None:
    runs = []
    for name in ("a", "b"):
        flags = ["--epochs=2", "--device=cuda", "--weight-dropout=0.2", f"--name={name}"]
        assert call(command(tmp_path, *flags)) == 0
        runs.append(load_checkpoint(tmp_path / "runs" / name).weights)
    assert all(torch.equal(runs[0][name], weight) for name, weight in runs[1].items())
