"""Texts from a model, many rows at a time."""

import numpy as np
import torch

from serving.runtime.sampling import uniforms
from training.model.model import CharRNN
from unroll.bundle.vocabulary import Vocabulary


@torch.no_grad()
def write(
    model: CharRNN,
    vocabulary: Vocabulary,
    *,
    prompt: str,
    symbols: int,
    temperatures: list[float],
    seed: int,
) -> list[str]:
    """Continue a prompt once for every temperature; row i draws with seed + i.

    Args:
        model: in evaluation mode.
        vocabulary: the model's.
        prompt: at least one symbol, all in the vocabulary; read from a zero state.
        symbols: to draw for each text.
        temperatures: above 0, one for each text, N of them.
        seed: the same seed gives the same texts.

    Returns:
        The texts without the prompt.
    """
    N = len(temperatures)
    ids = torch.from_numpy(vocabulary.encode(prompt, field="prompt"))
    tokens = ids[:, None].repeat(1, N)  # (T, N)
    state = model.zero_state(N)
    rows = [uniforms(seed + row, 0, symbols) for row in range(N)]
    drawn, uniform = [], torch.from_numpy(np.stack(rows, axis=1)).double()  # (symbols, N)
    divisor = torch.tensor(temperatures, dtype=torch.float64)[:, None]  # (N, 1)
    for numbers in uniform:
        logits, state = model(tokens, state)  # (T, N, V)
        cumulative = torch.softmax(logits[-1].double() / divisor, 1).cumsum(1)  # (N, V)
        chosen = (cumulative <= numbers[:, None] * cumulative[:, -1:]).sum(1)  # (N,)
        tokens = chosen.clamp(max=len(vocabulary) - 1)[None]  # (1, N)
        drawn.append(tokens[0])
    return [vocabulary.decode(row) for row in torch.stack(drawn, 1).tolist()]
