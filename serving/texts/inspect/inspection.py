"""What a model does along a text that it reads: probabilities, alternatives and hidden units."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from serving.engine.served import ServedModel
from serving.runtime.inspector import Inspected, Inspector
from serving.runtime.likeliest import Likeliest
from serving.texts.alternatives import alternatives_of
from serving.texts.inspect.parse import parse_find_units, parse_inspect
from serving.texts.inspect.roc import areas
from serving.texts.limits import Limits
from serving.texts.origins import Origin
from unroll.bundle.manifest import INSPECT
from unroll.errors import DeadlineError, InputError
from unroll.options import FindUnitsOptions, InspectOptions
from unroll.results import FoundUnit, FoundUnits, Inspection, Unit, Usage
from unroll.terms import UnitKind

STEPS = 256  # that are read at once; others' turns come between
T = TypeVar("T")


class Inspections:
    """Inspects texts on another thread than the event loop's, one at a time.

    Args:
        limits: what may be asked for.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._turn = asyncio.Lock()
        self._finding = asyncio.Lock()  # the values of all units take much memory

    async def inspect(
        self, text: str, options: InspectOptions, origin: Origin, deadline: float | None
    ) -> Inspection:
        """Read a text and show what was asked for.

        Args:
            text: to read.
            options: what to show.
            origin: what the text goes on from.
            deadline: time.monotonic() after which it fails; None for never.

        Raises:
            InputError: a field is out of its range, or the model's bundle has no such graph.
            DeadlineError: the deadline passed.
        """
        inspector, vocabulary = _inspector(origin.model), origin.model.bundle.vocabulary
        ids, unknown = parse_inspect(text, options, origin, self._limits)
        chosen = [_place_of(unit, origin.model) for unit in options.units]
        log_probs: list[float] = []
        likeliest: list[Likeliest] = []
        units: list[list[NDArray[np.float32]]] = [[] for _ in chosen]
        async for found in self._read(inspector, ids, options.top_log_probs, origin, deadline):
            # Of a long text, all units and all symbols' probabilities take much memory.
            coming = ids[len(log_probs) : len(log_probs) + len(found.log_probs)]
            log_probs += found.log_probs[np.arange(len(coming)), coming].tolist()
            likeliest.append(found.likeliest)
            for values, (kind, layer, index) in zip(units, chosen, strict=True):
                values.append(found.units[kind][:, layer, index].copy())

        def describe() -> Inspection:
            alternatives = alternatives_of(Likeliest.joined(likeliest), vocabulary)
            return Inspection(
                text=vocabulary.text_of(ids),
                log_probs=tuple(log_probs),
                alternatives=alternatives[:-1] if options.top_log_probs else (),
                next=alternatives[-1] if options.top_log_probs else None,
                units=tuple(tuple(np.concatenate(values)[1:].tolist()) for values in units),
                usage=_usage(ids, unknown),
                fingerprint=origin.model.fingerprint,
                position=len(ids) + (0 if origin.snapshot is None else origin.snapshot.position),
            )

        return await self._run(deadline, describe)

    async def find_units(
        self,
        text: str,
        targets: str,
        options: FindUnitsOptions,
        origin: Origin,
        deadline: float | None,
    ) -> FoundUnits:
        """Find the units whose value tells best where something holds; otherwise as `inspect`.

        Args:
            text: to read.
            targets: 1 for each symbol where it holds, 0 for the others.
            options: how many.
            origin: what the text goes on from.
            deadline: after which it fails.
        """
        inspector = _inspector(origin.model)
        ids, holds, count = parse_find_units(text, targets, options, origin, self._limits)
        async with self._finding:
            layers, area = await self._areas(inspector, ids, holds, origin, deadline)
        best = np.argsort(-np.abs(area - 0.5), axis=None, kind="stable")[:count]
        units: list[FoundUnit] = []
        for row, index in zip(*np.unravel_index(best, area.shape), strict=True):
            kind, layer = layers[row]
            score = float(area[row, index])
            unit = _unit_at(kind, layer, int(index), origin.model)
            units.append(FoundUnit(unit=unit, score=max(score, 1 - score), falls=score < 0.5))
        return FoundUnits(
            units=tuple(units), usage=_usage(ids, 0), fingerprint=origin.model.fingerprint
        )

    async def _areas(
        self,
        inspector: Inspector,
        ids: NDArray[np.int64],
        holds: NDArray[np.bool_],
        origin: Origin,
        deadline: float | None,
    ) -> tuple[list[tuple[str, int]], NDArray[np.float64]]:
        """Read a text and return kind and layer of all units, and their areas, (layers, hidden)."""
        found = [each.units async for each in self._read(inspector, ids, 0, origin, deadline)]
        layers = [
            (kind, layer) for kind, values in found[0].items() for layer in range(values.shape[1])
        ]

        def areas_of(kind: str, layer: int) -> NDArray[np.float64]:
            values = np.concatenate([each[kind][:, layer] for each in found])
            return areas(values[1:], holds)  # the first are from before the text

        scores = [await self._run(deadline, areas_of, kind, layer) for kind, layer in layers]
        return layers, np.stack(scores)

    async def _read(
        self,
        inspector: Inspector,
        ids: NDArray[np.int64],
        alternatives: int,
        origin: Origin,
        deadline: float | None,
    ) -> AsyncIterator[Inspected]:
        """Read the origin's last symbol and then the text; one step more than it has symbols."""
        if origin.snapshot is None:
            token = origin.model.bundle.vocabulary.start_id
            state = origin.model.engine.decoder.zero_state(1)
        else:
            token = origin.snapshot.token
            row = origin.model.engine.layout.unpack(origin.snapshot.state)
            state = {name: tensor[:, None] for name, tensor in row.items()}
        tokens = np.concatenate([[token], ids])
        for begin in range(0, len(tokens), STEPS):
            some = tokens[begin : begin + STEPS]
            found = await self._run(deadline, inspector.read, some, state, alternatives)
            state = found.state
            yield found

    async def _run(
        self, deadline: float | None, compute: Callable[..., T], *arguments: object
    ) -> T:
        """Compute on another thread, when it is this request's turn."""
        async with self._turn:
            if deadline is not None and time.monotonic() > deadline:
                raise DeadlineError("the deadline passed while the text was inspected")
            return await asyncio.to_thread(compute, *arguments)


def _inspector(model: ServedModel) -> Inspector:
    if model.inspector is None:
        raise InputError(
            "model",
            f"{model.name!r} cannot be inspected: its bundle has no {INSPECT}; export the "
            "checkpoint again",
        )
    return model.inspector


def _place_of(unit: Unit, model: ServedModel) -> tuple[str, int, int]:
    """Return where a unit is: its kind, its layer among those of all networks, its index there."""
    layers = model.bundle.manifest.model.layers
    return unit.kind.value, unit.member * layers + unit.layer, unit.index


def _unit_at(kind: str, layer: int, index: int, model: ServedModel) -> Unit:
    """Return the unit that is at a place, as _place_of has it."""
    member, layer = divmod(layer, model.bundle.manifest.model.layers)
    return Unit(member=member, layer=layer, index=index, kind=UnitKind(kind))


def _usage(ids: NDArray[np.int64], unknown: int) -> Usage:
    return Usage(prompt_symbols=len(ids), generated_symbols=0, unknown_symbols=unknown)
