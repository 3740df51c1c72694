"""The hash grid through torch.compile: several times as fast as eager torch, differentiable once.

The same function as `eager_hash.encode`, to rounding. Three kernels: the features, what the corners
add to the table's gradient, and the gradient of the points where somebody asks for it. What makes
it fast on a processor (on CUDA it has not been measured):

- The backward pass computes corners and weights anew: nothing but the points is kept.
- Two features are read as one 64-bit word, and added as one complex number.
- All levels share a kernel, which knows a dense level from a hashed one by a row of integers.
- Products with the primes fit 32 bits, since only their remainder mod T matters.
- `scatter_add_` sums the gradient up in a plain loop, a chunk of points at a time, whose parts are
  still in the cache. On a processor that means no atomic additions, and equal bits every time.
"""

import shutil
import sys
import warnings
from collections.abc import Callable
from functools import cache, lru_cache
from importlib import import_module
from importlib.util import find_spec
from itertools import product
from os import environ
from typing import Any, NamedTuple, no_type_check

import torch
from torch import Tensor

from sd_render.encodings.eager_hash import Features, Points, Table
from sd_render.encodings.hash_layout import PRIMES, HashLayout

BLOCK = 16  # Points come in whole blocks, so that the kernels have no loops for a rest.
CHUNK = 32768  # points whose gradient is summed up at a time; at F = 2 that is 4 MB a level


class CompilationFailed(Exception):
    """There is no code for this machine. Its text is the reason, on one line."""


def obstacle(device: torch.device) -> str | None:
    """Why nothing can be compiled for a device, as far as can be told without trying."""
    if device.type == "cuda":
        return None if find_spec("triton") else "triton is not installed"
    compiler = environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    return None if shutil.which(compiler) else f"there is no C++ compiler '{compiler}'"


def try_out(layout: HashLayout, device: torch.device) -> None:
    """Compile what training needs, for seconds, so that a failure comes now and not in a step."""
    table = torch.zeros(layout.entries, layout.features, device=device, requires_grad=True)
    # As many points as make the shapes differ from each other: torch.compile believes in equality.
    points = torch.zeros(11 * BLOCK, 3, device=device)
    with torch.enable_grad():
        torch.autograd.backward(encode(points, table, layout).sum())


def encode(points: Points, table: Table, layout: HashLayout) -> Features:
    """As `eager_hash.encode`, in float32, differentiable once. The first call compiles."""
    # The kernels read wherever the layout says, without asking.
    fits = len(table) >= layout.entries and table.shape[1] == layout.features
    if not fits or {points.dtype, table.dtype} != {torch.float32}:
        raise ValueError(
            f"a float32 table of at least [{layout.entries} {layout.features}] and float32 points, "
            f"not {table.dtype} {list(table.shape)} and {points.dtype}"
        )
    features: Tensor = _Encode.apply(points, table, layout)  # type: ignore[no-untyped-call]
    return features


class _Encode(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, points: Tensor, table: Tensor, layout: HashLayout) -> Tensor:
        context.save_for_backward(points, table)
        context.layout = layout
        grid = _grid(layout, table.device)
        features: Tensor = _run(_features, _blocks(points.t()), _words(table), grid)
        return features.view(layout.width, -1)[:, : len(points)].t()

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        if torch.is_grad_enabled():
            # Without a word, what comes back would be a constant to whoever differentiates it.
            raise RuntimeError("the compiled hash grid has no create_graph: use the eager one")
        points, table = context.saved_tensors
        grid = _grid(context.layout, table.device)
        gradient = gradient.t().contiguous()
        wants_points, wants_table, _ = context.needs_input_grad
        return (
            _gradient_of_points(points, gradient, table, grid) if wants_points else None,
            _gradient_of_table(points, gradient, table, grid) if wants_table else None,
            None,
        )


# around the kernels


class _Grid(NamedTuple):
    """Some levels of a layout as the kernels read them.

    The rows of `integers`: a factor for each axis, the last vertex, T - 1 (0 where dense), and
    the first entry. They are 64 bits wide where 32 would overflow.
    """

    scale: Tensor  # levels 1
    integers: Tensor  # 6 levels 1
    features: int
    paired: bool  # whether `_words` holds two features in one
    smooth: bool

    def level(self, number: int) -> "_Grid":
        one = slice(number, number + 1)
        return self._replace(scale=self.scale[one].clone(), integers=self.integers[:, one].clone())


@lru_cache(maxsize=64)
def _grid(layout: HashLayout, device: torch.device) -> _Grid:
    rows = []
    mixers = [_signed(prime, layout.table) for prime in PRIMES]
    finest = layout.resolutions[-1]
    for size, dense, offset in zip(layout.resolutions, layout.dense, layout.offsets, strict=True):
        if dense:
            rows.append([1, size, size**2, size - 1, 0, offset])
        else:
            rows.append([*mixers, finest, layout.table - 1, offset])
    largest = max(layout.table // 2 * finest, layout.entries * layout.features)
    kind = torch.int32 if largest < 2**31 else torch.int64
    columns = list(zip(*rows, strict=True))
    integers = torch.tensor(columns, dtype=kind, device=device)[:, :, None]
    scale = torch.tensor(layout.scales, dtype=torch.float32, device=device)[:, None]
    return _Grid(scale, integers, layout.features, layout.features % 2 == 0, layout.smooth)


def _signed(prime: int, table: int) -> int:
    """What equals the prime mod T and lies in [-T/2, T/2)."""
    return (prime + table // 2) % table - table // 2


def _gradient_of_points(points: Tensor, gradient: Tensor, table: Tensor, grid: _Grid) -> Tensor:
    slopes: Tensor = _run(_slopes, _blocks(points.t()), _blocks(gradient), _words(table), grid)
    return slopes[:, : len(points)].t()


def _gradient_of_table(points: Tensor, gradient: Tensor, table: Tensor, grid: _Grid) -> Tensor:
    words = torch.zeros_like(_words(table))
    total = words.view(torch.complex64) if grid.paired else words
    chunks = [_blocks(chunk.t()) for chunk in torch.split(points, CHUNK)]
    for number, part in enumerate(torch.split(gradient, grid.features)):
        level = grid.level(number)
        for chunk, given in zip(chunks, torch.split(part, CHUNK, dim=1), strict=True):
            _add_up(total, chunk, _blocks(given), level)
    return total.view(torch.float32).view(table.shape)


def _add_up(total: Tensor, points: Tensor, gradient: Tensor, level: _Grid) -> None:
    places, values = _run(_contributions, points, gradient, level)
    total.scatter_add_(0, places.view(-1), values.view(total.dtype).view(-1))


def _blocks(columns: Tensor) -> Tensor:
    """[k points] as a new [k blocks 16], zeros after the last point, and at least two blocks.

    For one block, and for views, torch.compile would make code of its own.
    """
    kinds, points = columns.shape
    blocks = columns.new_zeros(kinds, max(2, -(-points // BLOCK)), BLOCK)
    blocks.view(kinds, -1)[:, :points] = columns
    torch._dynamo.mark_static(blocks, 2)
    return blocks


def _words(table: Tensor) -> Tensor:
    """The table as a row of 64-bit words of two features, or of single ones where F is odd."""
    flat = table.detach().contiguous().view(-1)
    return flat if table.shape[1] % 2 else flat.view(torch.int64)


def _run(kernel: Callable[..., Any], *arguments: Any) -> Any:
    from torch._dynamo.exc import TorchDynamoException

    try:
        return _compiled(kernel)(*arguments)
    except TorchDynamoException as error:
        lines = str(getattr(error, "inner_exception", error)).splitlines() or [repr(error)]
        telling = [line for line in lines if "error:" in line]  # of the compiler's own output
        raise CompilationFailed([*telling, *lines][0]) from error


@cache
def _compiled(kernel: Callable[..., Any]) -> Callable[..., Any]:
    with warnings.catch_warnings():
        # Of torch's own code, which it imports here. Where warnings are errors, it could not.
        warnings.filterwarnings("ignore", "`torch.jit.script_method`", DeprecationWarning)
        import_module("torch._inductor.compile_fx")
    # Every index is in bounds by its mask or clamp: no need to ask again at each corner.
    options: dict[str, Any] = {"assert_indirect_indexing": False}
    return torch.compile(kernel, dynamic=True, fullgraph=True, options=options)


# The kernels. They have no shape checks, which torch.compile cannot read: "levels ... points".


@no_type_check
def _features(points, words, grid):
    """The encoding: points [3 blocks 16] to [levels features points]."""
    _, weights, indices = _corners(points, grid)
    totals = [0] * grid.features
    for weight, index in zip(weights, indices, strict=True):
        for feature, value in enumerate(_values(words, index, grid)):
            totals[feature] = totals[feature] + weight * value
    return torch.stack(totals, 1)


@no_type_check
def _contributions(points, gradient, grid):
    """Where the corners' gradients of one level go, and what they are: two of [words points].

    For `gradient` [features blocks 16]. Places are counted in words of `_words`.
    """
    _, weights, indices = _corners(points, grid)
    gradient = gradient.flatten(1)
    places, values = [], []
    for weight, index in zip(weights, indices, strict=True):
        parts = [weight[0] * gradient[feature] for feature in range(grid.features)]
        if grid.paired:
            parts = [_pack(*pair) for pair in zip(parts[::2], parts[1::2], strict=True)]
        for number, part in enumerate(parts):
            places.append((index[0] * len(parts) + number).to(torch.int64))
            values.append(part)
    return torch.stack(places), torch.stack(values)


@no_type_check
def _slopes(points, gradient, words, grid):
    """The gradient of the points [3 points]: s_l·f'(p)·Σ_c ±(the other axes' weights)·value_c.

    value_c = Σ_f gradient_f·table[entry(c), f]. Summed over the levels. For `gradient` [width
    blocks 16].
    """
    (sides, steepness), _, indices = _corners(points, grid)
    gradient = gradient.flatten(1).unflatten(0, (-1, grid.features))
    slopes = [0, 0, 0]
    for (i, j, k), index in zip(product((0, 1), repeat=3), indices, strict=True):
        value = 0
        for feature, entry in enumerate(_values(words, index, grid)):
            value = value + gradient[:, feature] * entry
        x, y, z = sides[0][i], sides[1][j], sides[2][k]
        for axis, (high, other) in enumerate(((i, y * z), (j, x * z), (k, x * y))):
            slopes[axis] = slopes[axis] + (other if high else -other) * value
    return (torch.stack(slopes) * steepness * grid.scale).sum(1)


@no_type_check
def _corners(points, grid):
    """The axes' weights and their slopes, and the weights and indices of the eight corners."""
    factors, (last, mask, offset) = grid.integers[:3], grid.integers[3:]
    position = points.flatten(1)[:, None] * grid.scale + 0.5
    vertex = position.floor()
    along = position - vertex
    steepness = 6 * along * (1 - along) if grid.smooth else torch.ones_like(along)
    along = along * along * (3 - 2 * along) if grid.smooth else along
    low = vertex.to(factors.dtype)
    terms = [
        [(low[axis] + side).clamp_min(0).minimum(last) * factors[axis] for side in (0, 1)]
        for axis in range(3)
    ]
    sides = [(1 - along[axis], along[axis]) for axis in range(3)]
    weights, indices = [], []
    for i, j, k in product((0, 1), repeat=3):
        x, y, z = terms[0][i], terms[1][j], terms[2][k]
        weights.append(sides[0][i] * sides[1][j] * sides[2][k])
        indices.append(torch.where(mask > 0, (x ^ y ^ z) & mask, x + y + z) + offset)
    return (sides, steepness), weights, indices


@no_type_check
def _values(words, index, grid):
    """The features of an entry."""
    if not grid.paired:
        return [words[index * grid.features + feature] for feature in range(grid.features)]
    pairs = grid.features // 2
    return [half for pair in range(pairs) for half in _unpack(words[index * pairs + pair])]


# Two numbers in a word, as a processor with the low byte first lays them out.


@no_type_check
def _unpack(word):
    return word.to(torch.int32).view(torch.float32), (word >> 32).to(torch.int32).view(
        torch.float32
    )


@no_type_check
def _pack(low, high):
    low, high = (half.view(torch.int32).to(torch.int64) for half in (low, high))
    return (low & 0xFFFFFFFF) | (high << 32)
