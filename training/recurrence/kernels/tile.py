"""The innermost loop of a product: a tile of the result that stays in registers.

LLVM's own words, since no compiler keeps a tile in registers by itself. On Zen 4 a loop
over tiles multiplies at 0.98 of what the processor can, in float32 and bfloat16.
"""

from typing import Any

import llvmlite.binding as llvm
import numba
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

get_or_insert: Any = cgutils.get_or_insert_function
config: Any = numba.config  # its attributes are made when it is loaded
f32, i32, i64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)


def _features() -> set[str]:
    """Name what the processor can do; nothing where numba is told to compile for another one."""
    if config.CPU_NAME or config.CPU_FEATURES:
        return set()
    return {name for name, has in llvm.get_host_cpu_features().items() if has}


FEATURES = _features()
# Sums of a tile, operands and one broadcast number must fit into the 32 or 16 vector registers.
LANES, VECTORS = (16, 4) if "avx512f" in FEATURES else (8, 2)
ROWS = 6
COLUMNS = LANES * VECTORS
FLOATS = {"avx2", "fma"} <= FEATURES
# Where there are AMX units, which need tiles of their own kind, the library is faster.
BFLOATS = {"avx512f", "avx512bf16"} <= FEATURES and "amx-bf16" not in FEATURES


class _BFloat(ir.Type):  # type: ignore[misc]
    """LLVM's bfloat, which llvmlite lacks."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat)

    def __hash__(self) -> int:
        return hash("bfloat")


def _multiply_tile(
    context: Any,
    rows: Any,
    a: Any,
    a_row: Any,
    a_step: Any,
    b: Any,
    c: Any,
    c_row: Any,
    steps: Any,
    add: Any,
    words: Any,
) -> Any:
    """Set or add to a tile of c, (rows, COLUMNS): the sum over steps of a's numbers times b's.

    Addresses are in bytes; the distances of a's and c's numbers, too. A word is a float32, or a
    pair of bfloat16 whose two products are added in float32.

    Args:
        context: of numba's typing.
        rows: of the tile, a constant, at most ROWS.
        a: address of the tile's first word.
        a_row: from row to row.
        a_step: from step to step.
        b: address of words (steps, COLUMNS), on a multiple of a vector's bytes.
        c: address of the tile's first float32.
        c_row: from row to row.
        steps: how many, at least 1.
        add: whether to add to what c holds.
        words: any array of such words as b's: float32, or uint32 for pairs of bfloat16.
    """
    address = types.intp
    signature = types.void(
        rows, address, address, address, address, address, address, address, types.boolean, words
    )

    def generate(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _, *numbers, add, _ = arguments
        _Tile(builder, rows.literal_value, words.dtype == types.uint32, *numbers).write(
            builder.trunc(add, ir.IntType(1))
        )
        return target.get_dummy_value()

    return signature, generate


# Within compiled functions, without the context.
multiply_tile: Any = intrinsic(prefer_literal=True)(_multiply_tile)


class _Tile:
    """Writes a tile's loop as LLVM's instructions; for the arguments see `_multiply_tile`."""

    def __init__(self, builder: Any, rows: int, pairs: bool, *numbers: Any) -> None:
        self._builder, self._rows = builder, rows
        self._a, self._a_row, self._a_step, self._b, self._c, self._c_row, self._steps = numbers
        self._sums = ir.VectorType(f32, LANES)
        self._word = i32 if pairs else f32
        self._operand = ir.VectorType(_BFloat(), 2 * LANES) if pairs else self._sums
        bits = LANES * 32
        name = f"llvm.x86.avx512bf16.dpbf16ps.{bits}" if pairs else f"llvm.fma.v{LANES}f32"
        kind = ir.FunctionType(
            self._sums,
            [self._sums, self._operand, self._operand] if pairs else [self._sums] * 3,
        )
        self._multiply = get_or_insert(builder.module, kind, name)
        self._pairs = pairs

    def write(self, add: Any) -> None:
        """Write all of it."""
        builder = self._builder
        entry, loop, adding = (
            builder.block,
            *(builder.append_basic_block(name) for name in ("loop", "adding")),
        )
        places = self._places()
        for place in places:  # what may be added to is on its way while the loop runs
            self._prefetch(place)
        builder.branch(loop)
        builder.position_at_end(loop)
        zero = ir.Constant(self._sums, [ir.Constant(f32, 0.0)] * LANES)
        step = self._phi(i64, (i64(0), entry))
        before = [self._phi(self._sums, (zero, entry)) for _ in places]
        after = self._step(step, before)
        following = builder.add(step, i64(1))
        for old, new in zip([step, *before], [following, *after], strict=True):
            old.add_incoming(new, loop)
        more = builder.icmp_signed("<", following, self._steps)
        builder.cbranch(more, loop, adding)
        builder.position_at_end(adding)
        with builder.if_else(add) as (then, otherwise):
            with then:
                for total, place in zip(after, places, strict=True):
                    held = builder.load(place, align=4)
                    builder.store(builder.fadd(held, total), place, align=4)
            with otherwise:
                for total, place in zip(after, places, strict=True):
                    builder.store(total, place, align=4)

    def _prefetch(self, place: Any) -> None:
        kind = ir.FunctionType(ir.VoidType(), [ir.IntType(8).as_pointer(), i32, i32, i32])
        function = get_or_insert(self._builder.module, kind, "llvm.prefetch.p0")
        address = self._builder.bitcast(place, ir.IntType(8).as_pointer())
        self._builder.call(function, [address, i32(1), i32(3), i32(1)])

    def _phi(self, kind: Any, *sources: tuple[Any, Any]) -> Any:
        phi = self._builder.phi(kind)
        for value, block in sources:
            phi.add_incoming(value, block)
        return phi

    def _step(self, step: Any, sums: list[Any]) -> list[Any]:
        """Multiply a word of each row with the words of all columns."""
        start = self._at(self._b, step, i64(4 * COLUMNS))
        columns = [
            self._builder.load(self._pointer(start, 4 * LANES * i, self._operand), align=4 * LANES)
            for i in range(VECTORS)
        ]
        place, after = self._at(self._a, step, self._a_step), []
        for row in range(self._rows):
            word = self._spread(self._at(place, i64(row), self._a_row))
            for i, column in enumerate(columns):
                total = sums[row * VECTORS + i]
                operands = [total, column, word] if self._pairs else [word, column, total]
                after.append(self._builder.call(self._multiply, operands))
        return after

    def _spread(self, address: Any) -> Any:
        """Return a vector all of whose words are the one at an address."""
        vector = ir.VectorType(self._word, LANES)
        nothing = ir.Constant(vector, ir.Undefined)
        word = self._builder.load(self._pointer(address, 0, self._word), align=4)
        one = self._builder.insert_element(nothing, word, i32(0))
        everywhere = ir.Constant(ir.VectorType(i32, LANES), [i32(0)] * LANES)
        spread = self._builder.shuffle_vector(one, nothing, everywhere)
        return self._builder.bitcast(spread, self._operand)

    def _places(self) -> list[Any]:
        """Return pointers to the tile's vectors, row by row."""
        rows = [self._at(self._c, i64(row), self._c_row) for row in range(self._rows)]
        return [
            self._pointer(row, 4 * LANES * i, self._sums) for row in rows for i in range(VECTORS)
        ]

    def _at(self, start: Any, count: Any, distance: Any) -> Any:
        return self._builder.add(start, self._builder.mul(count, distance))

    def _pointer(self, address: Any, offset: int, kind: Any) -> Any:
        return self._builder.inttoptr(self._builder.add(address, i64(offset)), kind.as_pointer())
