"""Texts by the million on many machines: `python -m examples.bulk_ray BUNDLE [RECORDS]`.

Needs `pip install 'ray[data]'`. Each worker process loads the bundle once, continues shards of
records and scores what it wrote. Record k has the seed SEED + k, so it does not matter which worker
makes it: the shards' union is what one process makes. On a cluster, give the bundle a path that all
machines see, and `ray.init("auto")`.
"""

import hashlib
import json
from argparse import ArgumentParser
from collections.abc import Iterable
from typing import Any

import ray

from unroll import GenerateOptions, load

SEED, SHARD, WORKERS = 7, 250, 2
PROMPT = "a "  # of symbols that the model knows
Batch = dict[str, Any]


class Maker:
    """Continues the prompt and scores the texts; an actor of Ray's, which keeps the model.

    Args:
        bundle: folder.
    """

    def __init__(self, bundle: str) -> None:
        self._model = load(bundle)

    def __call__(self, shards: Batch) -> Batch:
        """Make the records of a shard; a batch holds one."""
        first, count = int(shards["first"][0]), int(shards["count"][0])
        options = GenerateOptions(max_new_symbols=60, stop=(" ",), seed=SEED + first)
        made = self._model.generate_many([PROMPT] * count, options, in_order=True)
        texts = [answer.result.text for answer in made]
        scored = self._model.score_many([PROMPT + text for text in texts], in_order=True)
        return {
            "index": list(range(first, first + count)),
            "text": texts,
            "bits": [answer.result.bits_per_character for answer in scored],
        }


def main(bundle: str, records: int) -> None:
    """Make records on two worker processes, then in this one, and compare."""
    shards = [
        {"first": first, "count": min(SHARD, records - first)} for first in range(0, records, SHARD)
    ]
    ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False)
    made = (
        ray.data.from_items(shards, override_num_blocks=len(shards))
        .map_batches(Maker, fn_constructor_args=(bundle,), batch_size=1, concurrency=WORKERS)
        .take_all()
    )
    ray.shutdown()
    union = lines(sorted(made, key=lambda record: int(record["index"])))
    maker = Maker(bundle)
    columns = [maker({name: [value] for name, value in shard.items()}) for shard in shards]
    alone = lines(
        dict(zip(each, values, strict=True))
        for each in columns
        for values in zip(*each.values(), strict=True)
    )
    print(union[:200])
    print(f"{len(made)} records, sha256 {hashlib.sha256(union.encode()).hexdigest()}")
    print(f"the union of {len(shards)} shards is what one process makes: {union == alone}")


def lines(records: Iterable[Batch]) -> str:
    """Write records, a line each."""
    return "".join(
        json.dumps(
            {
                "index": int(record["index"]),
                "text": str(record["text"]),
                "bits": float(record["bits"]),
            }
        )
        + "\n"
        for record in records
    )


if __name__ == "__main__":
    parser = ArgumentParser("python -m examples.bulk_ray")
    parser.add_argument("bundle", metavar="BUNDLE")
    parser.add_argument("records", metavar="RECORDS", type=int, nargs="?", default=2000)
    main(**vars(parser.parse_args()))
