"""From the options of an inspection to what can be read, with the contract's ranges."""

import numpy as np
from numpy.typing import NDArray

from serving.engine.served import ServedModel
from serving.texts.limits import FIXED_BYTES, Limits
from serving.texts.origins import Origin
from serving.texts.parse.generate import alternative_bytes, check_length, encode
from unroll.errors import InputError
from unroll.options import UNIT_COUNT, FindUnitsOptions, InspectOptions
from unroll.ranges import check_number
from unroll.results import Unit
from unroll.terms import DEFAULT_FOUND_UNITS, UnitKind

Ids = NDArray[np.int64]


def parse_inspect(
    text: str, options: InspectOptions, origin: Origin, limits: Limits
) -> tuple[Ids, int]:
    """Check what is asked for.

    Args:
        text: to read.
        options: what to show.
        origin: what the text goes on from.
        limits: what may be asked for.

    Returns:
        The text's ids, (symbols,), and how many symbols were skipped or replaced.

    Raises:
        InputError: a field is out of its range.
    """
    vocabulary = origin.model.bundle.vocabulary
    check_length("text", text, limits.inspect)
    if not 0 <= options.top_log_probs <= len(vocabulary):
        raise InputError(
            "top_log_probs",
            f"must be 0 to {len(vocabulary)}, the size of the vocabulary, got "
            f"{options.top_log_probs}",
        )
    if len(options.units) > limits.units:
        raise InputError("units", f"must be at most {limits.units}, got {len(options.units)}")
    for place, unit in enumerate(options.units):
        _check_unit(f"units[{place}]", unit, origin.model)
    symbol = vocabulary.symbol_bytes + 4 * (1 + len(options.units))
    symbol += alternative_bytes(options.top_log_probs, vocabulary)
    if (worst := symbol * (len(text) + 1) + FIXED_BYTES) > limits.message:
        raise InputError(
            "text",
            f"has {len(text)} symbols, of which what is asked for may take {worst} bytes; an "
            f"answer has at most {limits.message}; send fewer, or ask for less",
        )
    _check_held(origin)
    return encode("text", text, options, vocabulary)


def parse_find_units(
    text: str, targets: str, options: FindUnitsOptions, origin: Origin, limits: Limits
) -> tuple[Ids, NDArray[np.bool_], int]:
    """Check what is asked for; arguments and errors as in parse_inspect.

    Returns:
        The text's ids and where the target holds, (symbols,) each, and how many units to return.
    """
    check_length("text", text, limits.inspect)
    count = DEFAULT_FOUND_UNITS if options.unit_count is None else options.unit_count
    check_number("unit_count", count, UNIT_COUNT)
    _check_held(origin)
    ids = origin.model.bundle.vocabulary.encode(text)
    if len(targets) != len(ids):
        raise InputError(
            "targets",
            f"has {len(targets)} symbols, the text has {len(ids)} in the form of the model's "
            "texts; give 0 or 1 for each of them",
        )
    if set(targets) != {"0", "1"}:
        raise InputError("targets", "must have 0 and 1, both of them and nothing else")
    return ids, np.array([target == "1" for target in targets]), count


def _check_unit(field: str, unit: Unit, model: ServedModel) -> None:
    sizes = model.bundle.manifest.model
    for name, value, size in (
        ("member", unit.member, sizes.members),
        ("layer", unit.layer, sizes.layers),
        ("index", unit.index, sizes.hidden_size),
    ):
        if not 0 <= value < size:
            raise InputError(f"{field}.{name}", f"must be 0 to {size - 1}, got {value}")
    if unit.kind is UnitKind.C and sizes.cell != "lstm":
        raise InputError(f"{field}.kind", f"must be h: a network of {sizes.cell} has no c")


def _check_held(origin: Origin) -> None:
    if origin.snapshot is not None and len(origin.snapshot.held):
        raise InputError(
            "text",
            f"cannot be read here: {len(origin.snapshot.held)} symbols were generated earlier and "
            "not yet delivered; generate first",
        )
