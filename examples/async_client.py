"""Many streams on one event loop: `python -m examples.async_client HOST:PORT`."""

import asyncio
from argparse import ArgumentParser
from contextlib import aclosing

from unroll import AsyncClient, GenerateOptions

PROMPT = "a "  # of symbols that the model knows


async def first_line(client: AsyncClient, seed: int) -> str:
    """Stream a text until its first line is complete; the rest is not computed."""
    text = ""
    options = GenerateOptions(max_new_symbols=2000, seed=seed)
    async with aclosing(client.stream(PROMPT, options)) as stream:
        async for piece in stream:
            text += piece.text
            if "\n" in text:
                break
    return text.partition("\n")[0]


async def main(target: str) -> None:
    """Stream several texts at once, then generate several samples with one request."""
    async with AsyncClient(target) as client:
        lines = await asyncio.gather(*(first_line(client, seed) for seed in range(8)))
        for line in lines:
            print("line:", repr(line))

        # Samples of one prompt, which is read once; sample i has the seed 100 + i.
        options = GenerateOptions(max_new_symbols=40, seed=100, sample_count=3)
        first = await client.generate(PROMPT, options)
        for sample in (first, *first.further_samples):
            print(f"seed {sample.completion.seed}:", repr(sample.text))


if __name__ == "__main__":
    parser = ArgumentParser("python -m examples.async_client")
    parser.add_argument("target", metavar="HOST:PORT")
    asyncio.run(main(parser.parse_args().target))
