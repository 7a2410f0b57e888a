"""What weights are called: without the prefixes of wrappers, and as their owner says."""

from collections.abc import Iterable, Mapping

from torch import Tensor

from unroll.errors import AdoptionError, nearest

# Of torch.compile, DataParallel and programs' own.
WRAPPERS = ("_orig_mod", "module", "model", "net", "network")
OURS = ("embedding", "recurrent", "decoder")


def unwrap(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Take off the prefixes that wrappers put before every name."""
    named = dict(weights)
    while named and len({name.split(".")[0] for name in named}) == 1:
        first = next(iter(named)).split(".")[0]
        if first not in WRAPPERS:
            break
        named = {name.split(".", 1)[1]: tensor for name, tensor in named.items()}
    return named


def rename(weights: Mapping[str, Tensor], renamed: Iterable[str]) -> dict[str, Tensor]:
    """Call weights what they are asked to be called.

    Args:
        weights: a state_dict.
        renamed: THEIRS=OURS, where THEIRS is a weight or a module of weights, and OURS is
            embedding, recurrent or decoder, or a weight of one of them.

    Raises:
        AdoptionError: one is not of that form, or there is nothing of that name.
    """
    named = dict(weights)
    for each in renamed:
        theirs, _, ours = each.partition("=")
        if not theirs or ours.split(".")[0] not in OURS:
            raise AdoptionError(
                f"map = {each!r}: must be THEIRS=OURS, where OURS begins with one of "
                f"{', '.join(OURS)}"
            )
        found = [name for name in named if name == theirs or name.startswith(theirs + ".")]
        if not found:
            modules = {name.rpartition(".")[0] for name in named} | named.keys()
            raise AdoptionError(
                f"map = {each!r}: no weight has that name; {nearest(theirs, modules)}"
            )
        named |= {ours + name[len(theirs) :]: named.pop(name) for name in found}
    return named
