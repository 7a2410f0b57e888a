"""What is wrong with a request, named as options do: `temperature`, not `sampling.temperature`."""

from collections.abc import Iterator
from contextlib import contextmanager

from unroll.errors import InputError, UnrollError
from unroll.terms import WITHIN_SAMPLING


def as_option(error: UnrollError) -> UnrollError:
    """Name what is wrong as options do: `temperature`, where protos say `sampling.temperature`."""
    if isinstance(error, InputError) and error.field.startswith(WITHIN_SAMPLING):
        return type(error)(error.field.removeprefix(WITHIN_SAMPLING), error.problem)
    return error


@contextmanager
def named_as_options() -> Iterator[None]:
    """Name what is wrong as options do, where the block raises it."""
    try:
        yield
    except InputError as error:
        if (named := as_option(error)) is error:
            raise
        raise named from error
