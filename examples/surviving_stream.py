"""A stream that outlives its server: `python -m examples.surviving_stream HOST:PORT HOST:PORT`.

Both servers must serve the same bundle with the same capsule key (`--capsule-keys`). Kill the first
one while the text comes: it goes on from the second, and the text is the same as without that.
"""

import logging
from argparse import ArgumentParser

from unroll import Client, GenerateOptions

PROMPT = "a "  # of symbols that the model knows
OPTIONS = GenerateOptions(max_new_symbols=4000, seed=3)


def main(*targets: str) -> None:
    """Stream a text from several servers."""
    logging.basicConfig(level=logging.INFO)  # tells of each break, on standard error
    received = ""
    with Client(targets) as client:
        for piece in client.stream(PROMPT, OPTIONS, resume=True, timeout=300):
            received += piece.text
            print(len(received), "symbols", flush=True)

    with Client(targets[-1]) as client:
        uncut = client.generate(PROMPT, OPTIONS).text
    print("the text is the uncut one:", received == uncut)


if __name__ == "__main__":
    parser = ArgumentParser("python -m examples.surviving_stream")
    parser.add_argument("targets", metavar="HOST:PORT", nargs="+")
    main(*parser.parse_args().targets)
