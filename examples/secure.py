"""An encrypted connection with a token: `python -m examples.secure HOST:PORT CA-FILE TOKEN-FILE`.

The server runs with `--tls-certificate`, `--tls-key` and `--tokens`; docs/guide/security.md
tells how to make these files. Sessions belong to the token's name: nobody else can see or use them.
"""

from argparse import ArgumentParser
from dataclasses import replace
from pathlib import Path

from unroll import AuthenticationError, Client, GenerateOptions, Security

OPTIONS = GenerateOptions(max_new_symbols=60, seed=3)


def main(target: str, authority: str, token_file: str) -> None:
    """Generate in a session of one's own, then try without the token."""
    token = Path(token_file).read_text(encoding="ascii").strip()
    security = Security(ca=Path(authority), token=token)
    with Client(target, security=security) as client:
        session = client.start_session()
        print("text:", repr(session.generate("a ", OPTIONS).text))

    with Client(target, security=replace(security, token="")) as stranger:
        try:
            stranger.generate("a ", OPTIONS)
        except AuthenticationError as error:
            print("a stranger is told:", error)


if __name__ == "__main__":
    parser = ArgumentParser("python -m examples.secure")
    parser.add_argument("target", metavar="HOST:PORT")
    parser.add_argument("authority", metavar="CA-FILE")
    parser.add_argument("token_file", metavar="TOKEN-FILE")
    main(**vars(parser.parse_args()))
