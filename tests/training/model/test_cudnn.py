"""What can be seen without a GPU of how CUDA trains: the refusal, and layers in bfloat16."""

import pytest
import torch

from training.model.cudnn import require_cudnn
from training.model.model import CELLS, CharRNN, ModelSettings
from training.settings import Cell
from unroll.errors import DeviceError

# Operands of products in bfloat16 have 8 bits, states between steps as well; values are below 1.
CLOSE = 0.03


def tiny_model(cell: Cell) -> CharRNN:
    torch.manual_seed(25)
    sizes = {"vocabulary_size": 11, "embedding_size": 3, "hidden_size": 5, "layers": 2}
    return CharRNN(ModelSettings(cell=cell, **sizes))


def test_a_training_without_cudnns_layers_is_refused_and_nothing_is_changed() -> None:
    model = tiny_model("gru")
    random = torch.get_rng_state()
    with pytest.raises(DeviceError, match=r"did not run \(aten::_cudnn_rnn, aten::_cudnn_rnn_b"):
        require_cudnn(model, 7)
    assert all(weight.grad is None for weight in model.parameters())
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize("cell", CELLS)
def test_torchs_layers_in_bf16_take_bfloat16_and_give_states_in_float32(cell: Cell) -> None:
    model = tiny_model(cell)
    tokens = torch.randint(11, (13, 7))
    state = {name: torch.rand_like(tensor) for name, tensor in model.zero_state(7).items()}
    wanted, wanted_state = model._run_torch(
        model.networks[0], tokens, dict(reversed(state.items()))
    )
    model.precision = "bf16"
    with torch.autocast("cpu", torch.bfloat16):
        outputs, after = model._run_torch(model.networks[0], tokens, state)
    assert outputs.dtype == torch.bfloat16
    torch.testing.assert_close(outputs.float(), wanted, rtol=0, atol=CLOSE)
    assert after.keys() == wanted_state.keys()
    for name, tensor in after.items():
        assert tensor.dtype == torch.float32
        torch.testing.assert_close(tensor, wanted_state[name], rtol=0, atol=2 * CLOSE)
    outputs.sum().backward()  # type: ignore[no-untyped-call]
    assert all(w.grad is not None for w in model.recurrent.parameters())
