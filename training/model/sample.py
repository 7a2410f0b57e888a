"""Text from the model in torch, many rows at a time."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from training.model.model import CharRNN
from training.model.validation import never
from unroll.bundle.vocabulary import Vocabulary


@torch.no_grad()
def sample(
    model: CharRNN,
    vocabulary: Vocabulary,
    *,
    prompt: str,
    uniforms: NDArray[np.floating[Any]],
    temperatures: Sequence[float],
    is_over: Callable[[], bool] = never,
) -> list[str]:
    """Continue a prompt from a zero state with symbols drawn from the softmax.

    A symbol that stands for unknown ones is not drawn. Where a model's texts are records, each line
    begins anew, from a zero state.

    Args:
        model: is in its previous mode again afterwards.
        vocabulary: the model's.
        prompt: at least one symbol, all in the vocabulary.
        uniforms: random numbers in [0, 1), one for each symbol of each text, (symbols, N).
        temperatures: of each of the N texts, above 0; below 1 the likely symbols become likelier.
        is_over: asked after each symbol whether to stop there.

    Returns:
        The N texts, without the prompt; at least one symbol each.
    """
    was_training = model.training
    model.eval()
    device, N = model.decoder.weight.device, len(temperatures)
    ids = torch.from_numpy(vocabulary.encode(prompt, field="prompt"))
    tokens = ids[:, None].repeat(1, N).to(device)  # (T, N)
    divisor = torch.tensor(temperatures, dtype=torch.float64, device=device)[:, None]  # (N, 1)
    end = vocabulary.symbols.find("\n") if vocabulary.form.unit == "record" else -1
    state, drawn = model.zero_state(N), []
    for numbers in torch.from_numpy(uniforms).double().to(device):
        logits, state = model(tokens, state)  # (T, N, V)
        drawable = logits[-1, :, : vocabulary.sampled_size].double()
        cumulative = torch.softmax(drawable / divisor, 1).cumsum(1)  # (N, V)
        chosen = (cumulative <= numbers[:, None] * cumulative[:, -1:]).sum(1)  # (N,)
        tokens = chosen.clamp(max=vocabulary.sampled_size - 1)[None]  # (1, N)
        drawn.append(tokens[0])
        has_ended = tokens[0] == end  # (N,)
        if has_ended.any():
            tokens[0, has_ended] = vocabulary.start_id
            state = {name: t.masked_fill(has_ended[:, None], 0) for name, t in state.items()}
        if is_over():
            break
    model.train(was_training)
    return [vocabulary.decode(row) for row in torch.stack(drawn, 1).tolist()]
