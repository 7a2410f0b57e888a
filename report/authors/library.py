"""The authors that can be told apart: the chosen corpus and the others that are at hand."""

import os
from pathlib import Path
from pydoc_data.topics import topics

from platformdirs import user_cache_path

from training.data.corpus.corpus import Corpus, load_corpus

OTHERS = ("sherlock", "tinyshakespeare", "casebook")
SAME_AUTHOR = {"shakespeare": "tinyshakespeare"}
MANUAL = "Python's manual"


def others(chosen: Corpus) -> dict[str, str]:
    """Return texts of other authors by name, at least one.

    They are those of OTHERS that lie on this machine: the bundled one, and what is found in the
    folder CORPUS_DIR or in the cache of downloads. Nothing is downloaded. Where there are none, it
    is the reference manual that CPython holds for `help()`.
    """
    folders = [user_cache_path("unroll") / "corpora"]
    if os.environ.get("CORPUS_DIR"):
        folders.append(Path(os.environ["CORPUS_DIR"]))
    found = {}
    for name in OTHERS:
        at_hand = name == "casebook" or any((f / f"{name}.txt").is_file() for f in folders)
        if at_hand and name not in {chosen.name, SAME_AUTHOR.get(chosen.name)}:
            corpus = load_corpus(name)
            if corpus.sha256 != chosen.sha256:
                found[name] = corpus.text
    return found or {MANUAL: "\n".join(topics[topic] for topic in sorted(topics))}
