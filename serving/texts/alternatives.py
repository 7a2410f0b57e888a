"""The likeliest symbols along a text, from the loop's ids to symbols."""

from serving.engine.request import Chunk
from serving.runtime.likeliest import NOBODY
from unroll.bundle.vocabulary import Vocabulary
from unroll.results import Alternatives


def alternatives_of(chunk: Chunk, vocabulary: Vocabulary) -> tuple[Alternatives, ...]:
    """Describe the alternatives at each symbol of a chunk; none if they were not asked for.

    At symbols that the origin held, of an earlier request, they are empty.
    """
    if chunk.likeliest is None:
        return ()
    count = chunk.likeliest.ids.shape[1]
    symbols = vocabulary.text_of(chunk.likeliest.ids.ravel())
    is_known = (chunk.likeliest.ids[:, 0] != NOBODY).tolist()
    return tuple(
        Alternatives(
            symbols=symbols[place * count : (place + 1) * count], log_probs=tuple(log_probs)
        )
        if is_known[place]
        else Alternatives(symbols="", log_probs=())
        for place, log_probs in enumerate(chunk.likeliest.log_probs.tolist())
    )
