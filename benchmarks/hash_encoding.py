"""The hash grid compiled and in eager torch, beside nerfstudio's, in turn in one run.

nerfstudio is measured where it can be imported. To install what its encoding needs and no more:

    pip install --no-deps --target FOLDER nerfstudio==1.1.5 viser==0.2.7 msgspec websockets

and add FOLDER to the end of PYTHONPATH.
"""

import math
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from tempfile import TemporaryDirectory
from time import perf_counter

import torch
from _report import machine, spread, write_section
from torch import Generator, Tensor

from sd_render.encodings import compiled_hash, eager_hash
from sd_render.encodings.hash_layout import HashLayout

# Linear weights, since nerfstudio's torch code has no others.
LAYOUT = HashLayout(
    levels=8,
    features=2,
    log2_table=17,
    base_resolution=16,
    growth=1.447269237440378,
    smooth=False,
)
POINTS = 262_144
ROUNDS = 9
FIRST_CALL = "first-call"
Encode = Callable[[Tensor], Tensor]


def ours(encode: Callable[[Tensor, Tensor, HashLayout], Tensor]) -> Encode:
    table = torch.rand(LAYOUT.entries, LAYOUT.features, generator=Generator().manual_seed(0))
    table.requires_grad_()
    return lambda points: encode(points, table, LAYOUT)


def nerfstudio() -> Encode | None:
    """Its encoding by torch: the same resolutions to one vertex, every level of them hashed."""
    try:
        from nerfstudio.field_components.encodings import HashEncoding
    except ImportError:
        return None
    return HashEncoding(
        num_levels=LAYOUT.levels,
        min_res=LAYOUT.base_resolution,
        max_res=math.floor(LAYOUT.base_resolution * LAYOUT.growth ** (LAYOUT.levels - 1)),
        log2_hashmap_size=LAYOUT.log2_table,
        features_per_level=LAYOUT.features,
        implementation="torch",
    )


def milliseconds(encode: Encode, points: Tensor, gradient: Tensor) -> tuple[float, float]:
    """Wall time forward, and forward and backward to the table (and to points that ask for it)."""
    points = points.detach().requires_grad_(points.requires_grad)
    began = perf_counter()
    features = encode(points)
    middle = perf_counter()
    features.backward(gradient)
    return 1000 * (middle - began), 1000 * (perf_counter() - began)


def rows(encoders: dict[str, Encode | None], *, of_points: bool) -> list[str]:
    generator = Generator().manual_seed(1)
    points = torch.rand(POINTS, 3, generator=generator).requires_grad_(of_points)
    gradient = torch.randn(POINTS, LAYOUT.width, generator=generator)
    present = {name: encode for name, encode in encoders.items() if encode is not None}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in present}
    for _ in range(ROUNDS + 1):
        for name, encode in present.items():
            times[name].append(milliseconds(encode, points, gradient))
    case = "table and points" if of_points else "table"
    lines = [f"| {name} | {case} | not installed | | |" for name in encoders if name not in present]
    for name, pairs in times.items():
        forward, both = zip(*pairs[1:], strict=True)  # the first warms up
        ratios = [a[1] / b[1] for a, b in zip(times["eager"], pairs, strict=True)][1:]
        lines.append(
            f"| {name} | {case} | {spread(forward, 'ms', 1)} | {spread(both, 'ms', 1)} | "
            f"{statistics.median(ratios):.2f} |"
        )
    return lines


def first_call() -> None:
    """In a process of its own: seconds of the first forward and backward."""
    torch.set_num_threads(1)
    points = torch.rand(1000, 3, generator=Generator().manual_seed(1))
    began = perf_counter()
    ours(compiled_hash.encode)(points).sum().backward()
    print(perf_counter() - began)


def first_calls(folder: str) -> float:
    environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": folder}
    command = [sys.executable, __file__, FIRST_CALL]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(told.stdout)


def main() -> None:
    with TemporaryDirectory() as folder:
        cold = first_calls(folder)
        warm = [first_calls(folder) for _ in range(3)]
    torch.set_num_threads(1)
    encoders = {
        "eager": ours(eager_hash.encode),
        "compiled": ours(compiled_hash.encode),
        "nerfstudio": nerfstudio(),
    }
    table = [*rows(encoders, of_points=False), *rows(encoders, of_points=True)]
    packages = ["sd-render", "torch"]
    if encoders["nerfstudio"] is not None:
        packages.append("nerfstudio")
    write_section(
        "hash-encoding",
        f"""## Hash-grid encoding

{POINTS:,} random points, {LAYOUT.levels} levels of {LAYOUT.features} features, at most
2^{LAYOUT.log2_table} entries a level, linear weights.

| backend | gradient to | forward | forward and backward | times as fast as eager |
|---|---|---|---|---|
{chr(10).join(table)}

Wall time, median of {ROUNDS} rounds in turn (least to most); goal: at least 5 times as fast.
The first call compiles: {cold:.1f} s with an empty cache, {spread(warm, "s", 1)} with a warm one.
{machine(*packages)}. `nox -s benchmarks -- hash_encoding`
""",
    )


if __name__ == "__main__":
    first_call() if FIRST_CALL in sys.argv else main()
