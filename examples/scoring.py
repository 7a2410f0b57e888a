"""How well a model foresees texts: `python -m examples.scoring HOST:PORT`.

A score is the log-probability of each symbol, in nats, and their mean in bits per character: few
bits mean that the model foresaw the text.
"""

import math
from argparse import ArgumentParser

from unroll import Client, GenerateOptions

PROMPT = "a "  # of symbols that the model knows
COOL = GenerateOptions(max_new_symbols=400, seed=8, temperature=0.5)


def main(target: str) -> None:
    """Score texts on a server."""
    with Client(target) as client:
        # What the model itself wrote it foresees well; the same backwards, less so.
        likely = client.generate(PROMPT, COOL).text
        for text in (likely, likely[::-1]):
            bits = client.score(text).bits_per_character
            print(f"{bits:.3f} bits per character: {text[:40]!r}...")

        # Each symbol's own share, and what the text costs after some other text.
        score = client.score(PROMPT)
        for symbol, log_prob in zip(PROMPT, score.log_probs, strict=True):
            print(f"{symbol!r} has probability {math.exp(log_prob):.4f}")
        read = client.generate(PROMPT, GenerateOptions(max_new_symbols=0))
        after = client.score(likely, capsule=read.capsule)
        print(f"{after.bits_per_character:.3f} bits per character after {PROMPT!r}")


if __name__ == "__main__":
    parser = ArgumentParser("python -m examples.scoring")
    parser.add_argument("target", metavar="HOST:PORT")
    main(parser.parse_args().target)
