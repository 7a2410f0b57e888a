"""A session that is forked and put back: `python -m examples.session_fork_rewind HOST:PORT`.

The server keeps the state of the text, so that each request sends only what is new.
"""

from argparse import ArgumentParser

from unroll import Client, GenerateOptions, SessionOptions

PROMPT = "a "  # of symbols that the model knows
LINE = GenerateOptions(max_new_symbols=40)


def main(target: str) -> None:
    """Show a session on a server."""
    with Client(target) as client:
        session = client.start_session(SessionOptions(seed=1))
        print("first:", repr(session.generate(PROMPT, LINE).text))
        after_first = session.position

        # Three ways on from here, each with random numbers of its own. The session stays.
        for fork in session.fork(seeds=[11, 12, 13]):
            print("fork:", repr(fork.generate("", LINE).text))
            fork.end()

        # One way on, taken back, and taken again: the same text, as nothing else has changed.
        second = session.generate("", LINE).text
        print("second:", repr(second))
        print("marks:", session.describe().marks)
        session.rewind(after_first)
        print("second again is the same:", session.generate("", LINE).text == second)
        session.end()


if __name__ == "__main__":
    parser = ArgumentParser("python -m examples.session_fork_rewind")
    parser.add_argument("target", metavar="HOST:PORT")
    main(parser.parse_args().target)
