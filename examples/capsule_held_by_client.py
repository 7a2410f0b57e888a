"""A text whose state the client keeps: `python -m examples.capsule_held_by_client HOST:PORT`.

A capsule is the state of a text, signed by the server. The server keeps nothing: whatever server
has the same bundle and key goes on from it, days later too, as often as one likes.
"""

import tempfile
from argparse import ArgumentParser
from pathlib import Path

from unroll import Client, GenerateOptions

PROMPT = "a "  # of symbols that the model knows


def main(target: str) -> None:
    """Generate a text in two parts, and in one."""
    with Client(target) as client, tempfile.TemporaryDirectory() as folder:
        first = client.generate(PROMPT, GenerateOptions(max_new_symbols=60, seed=5))
        saved = Path(folder, "capsule")
        saved.write_bytes(first.capsule)
        print(f"a capsule of {len(first.capsule)} bytes at position {first.completion.position}")

        # Later, perhaps another process: no prompt, as the capsule stands behind it. It also holds
        # the seed and how symbols are drawn.
        rest = client.generate("", GenerateOptions(max_new_symbols=40), capsule=saved.read_bytes())
        print("text:", repr(first.text + rest.text))

        whole = client.generate(PROMPT, GenerateOptions(max_new_symbols=100, seed=5))
        print("the parts make the whole:", first.text + rest.text == whole.text)


if __name__ == "__main__":
    parser = ArgumentParser("python -m examples.capsule_held_by_client")
    parser.add_argument("target", metavar="HOST:PORT")
    main(parser.parse_args().target)
