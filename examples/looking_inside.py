"""What a network does along a text: `python -m examples.looking_inside HOST:PORT`.

For each symbol, how probable it was and what else was; and the hidden unit that tells best whether
a word has just ended, with its value after each symbol.
"""

import math
from argparse import ArgumentParser

from unroll import Client, GenerateOptions, InspectOptions

PROMPT = "a "  # of symbols that the model knows
SHOWN = 20


def main(target: str) -> None:
    """Look into a model on a server."""
    with Client(target) as client:
        options = GenerateOptions(max_new_symbols=400, seed=8, temperature=0.5)
        text = PROMPT + client.generate(PROMPT, options).text

        ends_word = [symbol == " " for symbol in text]
        best = client.find_units(text, ends_word).units[0]
        print(f"{best.unit} {'falls' if best.falls else 'rises'}, score {best.score:.3f}")

        shown = client.inspect(text, InspectOptions(units=(best.unit,), top_log_probs=3))
        along = zip(shown.text, shown.log_probs, shown.alternatives, shown.units[0], strict=True)
        for symbol, log_prob, likeliest, value in list(along)[:SHOWN]:
            print(
                f"{symbol!r:6} {math.exp(log_prob):.3f}, likeliest {likeliest.symbols!r:10} "
                f"unit {value:+.3f}"
            )


if __name__ == "__main__":
    parser = ArgumentParser("python -m examples.looking_inside")
    parser.add_argument("target", metavar="HOST:PORT")
    main(parser.parse_args().target)
