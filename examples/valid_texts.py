"""Names, dates and JSON that are valid, by a model of two minutes.

    python -m examples.valid_texts people.txt             # writes a text to train on
    unroll train --preset quick --minutes 2 --corpus people.txt --name people
    unroll export --checkpoint runs/people --bundle bundles/people
    python -m examples.valid_texts bundles/people

A pattern or a JSON schema says what a text must match; the model says what is likely. The schema
needs outlines-core: `pip install -c constraints.txt '.[schema]'`.
"""

import json
import random
import re
from argparse import ArgumentParser
from collections.abc import Iterable
from datetime import date
from pathlib import Path

import unroll
from unroll import GenerateOptions, UnrollError

FIRST = ["Anna", "Bert", "Clara", "Dario", "Elena", "Finn", "Greta", "Hugo", "Ines", "Jonas"]
LAST = ["Adler", "Berg", "Conti", "Dorn", "Eberle", "Falk", "Gruber", "Hahn", "Ibsen", "Jung"]
TAGS = ["river", "stone", "cloud", "window", "garden", "letter", "paper", "harbour", "winter"]
PEOPLE = 40_000

NAME = "[A-Z][a-z]{2,9} [A-Z][a-z]{2,9}\n"
DATE = r"(19|20)\d\d-(0[1-9]|1[0-2])-(0[1-9]|1\d|2[0-8])"
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "pattern": "^[A-Z][a-z]{2,9} [A-Z][a-z]{2,9}$"},
        "born": {"type": "string", "pattern": f"^{DATE}$"},
        "tags": {"type": "array", "items": {"enum": TAGS}, "minItems": 1, "maxItems": 3},
    },
    "required": ["name", "born", "tags"],
}


def person(chance: random.Random) -> str:
    """Make up a person, as one line of JSON, a name or a date."""
    name = f"{chance.choice(FIRST)} {chance.choice(LAST)}"
    born = date(1930, 1, 1).toordinal() + chance.randrange(30_000)
    day = date.fromordinal(born).isoformat()
    tags = chance.sample(TAGS, chance.randint(1, 3))
    whole = json.dumps({"name": name, "born": day, "tags": tags})
    return chance.choice((whole, whole, name, day))


def write_corpus(file: Path) -> None:
    """Write the lines that the model is trained on."""
    chance = random.Random(5)
    file.write_text("".join(person(chance) + "\n" for _ in range(PEOPLE)), encoding="utf-8")


def ask(folder: str) -> None:
    """Write texts with a bundle, and check them."""
    with unroll.load(folder) as model:

        def texts(options: GenerateOptions) -> Iterable[str]:
            return (answer.result.text for answer in model.generate_many(["\n"] * 5, options))

        for name in texts(GenerateOptions(pattern=NAME, seed=1)):
            print(f"name: {name.strip()}")
            assert re.fullmatch(NAME, name)
        for day in texts(GenerateOptions(pattern=DATE, seed=1)):
            print(f"date: {date.fromisoformat(day):%d %B %Y}")
        for text in texts(GenerateOptions(json_schema=json.dumps(SCHEMA), seed=1)):
            one = json.loads(text)
            print(f"JSON: {text}")
            assert set(one["tags"]) <= set(TAGS)
            date.fromisoformat(one["born"])
        free = "".join(texts(GenerateOptions(seed=1, max_new_symbols=400))).splitlines()
        print(f"without a schema, a line: {max(free, key=len)}")


if __name__ == "__main__":
    parser = ArgumentParser("python -m examples.valid_texts")
    parser.add_argument("place", metavar="FILE.txt|BUNDLE")
    place = parser.parse_args().place
    try:
        write_corpus(Path(place)) if place.endswith(".txt") else ask(place)
    except UnrollError as error:
        raise SystemExit(f"examples.valid_texts: {error}") from error
