"""The likeliest symbols along a text, from the loop's ids to symbols."""

from serving.runtime.likeliest import NOBODY, Likeliest
from unroll.bundle.vocabulary import Vocabulary
from unroll.results import Alternatives


def alternatives_of(
    likeliest: Likeliest | None, vocabulary: Vocabulary
) -> tuple[Alternatives, ...]:
    """Describe the alternatives at each of some symbols; none if they were not asked for.

    At symbols that the origin held, of an earlier request, they are empty.
    """
    if likeliest is None or not (count := likeliest.ids.shape[1]):
        return ()
    symbols = vocabulary.text_of(likeliest.ids.ravel())
    is_known = (likeliest.ids[:, 0] != NOBODY).tolist()
    return tuple(
        Alternatives(
            symbols=symbols[place * count : (place + 1) * count], log_probs=tuple(log_probs)
        )
        if is_known[place]
        else Alternatives(symbols="", log_probs=())
        for place, log_probs in enumerate(likeliest.log_probs.tolist())
    )
