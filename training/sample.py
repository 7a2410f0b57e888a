"""Text from the model in torch, one symbol at a time."""

import numpy as np
import torch

from training.model.model import CharRNN
from unroll.bundle.vocabulary import Vocabulary


@torch.no_grad()
def sample(
    model: CharRNN,
    vocabulary: Vocabulary,
    *,
    prompt: str,
    symbols: int,
    seed: int | list[int],
    temperature: float = 1.0,
) -> str:
    """Continue a prompt from a zero state with symbols drawn from the softmax.

    Args:
        model: is in its previous mode again afterwards.
        vocabulary: the model's.
        prompt: at least one symbol, all in the vocabulary.
        symbols: number of symbols to draw.
        seed: the same seed gives the same text.
        temperature: above 0; below 1 the likely symbols become likelier.

    Returns:
        The drawn symbols, without the prompt.
    """
    was_training = model.training
    model.eval()
    device = model.decoder.weight.device
    uniforms = np.random.default_rng(seed).random(symbols)
    tokens = torch.tensor(vocabulary.encode(prompt, field="prompt")[:, None], device=device)
    state, drawn = model.zero_state(1), list[int]()
    for uniform in uniforms:
        logits, state = model(tokens, state)  # (T, 1, V)
        cumulative = torch.softmax(logits[-1, 0].double() / temperature, 0).cumsum(0)  # (V,)
        chosen = int((cumulative <= uniform * cumulative[-1]).sum())
        drawn.append(min(chosen, len(vocabulary) - 1))
        tokens = torch.tensor([[drawn[-1]]], device=device)
    model.train(was_training)
    return vocabulary.decode(drawn)
