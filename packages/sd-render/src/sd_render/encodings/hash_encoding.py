"""A learned encoding of points: the table behind a hash grid, and who computes it."""

import logging
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import Generator, nn
from torch.nn.functional import pad

from sd_core.errors import CheckpointError, ConfigError
from sd_render.encodings import compiled_hash, eager_hash, tcnn_hash
from sd_render.encodings.compiled_hash import CompilationFailed
from sd_render.encodings.eager_hash import Features, Points
from sd_render.encodings.hash_layout import HashLayout
from sd_render.encodings.tcnn_hash import TcnnHash

Backend = Literal["tinycudann", "compiled", "eager"]
BackendName = Literal["auto", "tinycudann", "compiled", "eager"]
INITIAL_SPREAD = 1e-4  # Müller et al. 2022, section 4

# Fastest first: what stands in a backend's way on a device, and what a user can do about it.
OBSTACLES: dict[Backend, tuple[Callable[[torch.device], str | None], str]] = {
    "tinycudann": (tcnn_hash.obstacle, f"On CUDA, {tcnn_hash.INSTALL}; or choose 'auto'."),
    "compiled": (compiled_hash.obstacle, "Install one or name yours in CXX; or choose 'eager'."),
}


class Choice(NamedTuple):
    """A backend, and why it is this one, for the log."""

    backend: Backend
    reason: str


def choose_backend(name: BackendName, device: torch.device) -> Choice:
    """The named backend, or for "auto" the fastest there is. `ConfigError` where it is missing."""
    if name == "auto":
        found: list[str] = []
        for backend, (obstacle, _) in OBSTACLES.items():
            reason = obstacle(device)
            if reason is None:
                return Choice(backend, "; ".join([*found, f"{backend} is the fastest here"]))
            found.append(f"not {backend}: {reason}")
        return Choice("eager", "; ".join(found))
    if name in OBSTACLES:
        obstacle, remedy = OBSTACLES[name]
        reason = obstacle(device)
        if reason is not None:
            raise ConfigError(f"hash-grid backend '{name}' was asked for, but {reason}. {remedy}")
    return Choice(name, "asked for")


class HashEncoding(nn.Module):
    """Points in [0, 1]³ to `layout.width` features, by a table that is learned.

    `enabled_levels` counts the coarsest levels that take part; the features of the others are 0
    (progressive levels). Between 'eager' and 'compiled' a state_dict can be carried over, to and
    from 'tinycudann' it cannot. A table that is made float64 is computed by 'eager'.
    """

    def __init__(
        self,
        layout: HashLayout,
        backend: BackendName,
        *,
        generator: Generator,
        device: torch.device,
    ) -> None:
        super().__init__()
        self.layout = layout
        self.enabled_levels = layout.levels
        self.backend, self.reason = choose_backend(backend, device)
        self._may_change = backend == "auto"
        self._say_if_slow()
        self._tried_out = False
        self.register_load_state_dict_pre_hook(_refuse_another_order)  # type: ignore[no-untyped-call]
        if self.backend == "tinycudann":
            self.tcnn = TcnnHash(layout, generator, device)
            return
        table = torch.empty(layout.entries, layout.features, device=generator.device)
        table.uniform_(-INITIAL_SPREAD, INITIAL_SPREAD, generator=generator)
        self.table = nn.Parameter(table.to(device))

    def forward(self, points: Points) -> Features:
        """The features of points. The first call may compile, which takes seconds."""
        if self.backend == "compiled" and not self._tried_out:
            self._try_out()
        return self._encode(points, self.backend)

    def forward_twice_differentiable(self, points: Points) -> Features:
        """The same for a loss that holds its gradient: slower where the other is compiled."""
        return self._encode(points, "eager" if self.backend == "compiled" else self.backend)

    def _encode(self, points: Points, backend: Backend) -> Features:
        layout = self.layout.first(min(self.enabled_levels, self.layout.levels))
        if backend == "tinycudann":
            features = self.tcnn(points)[:, : layout.width]
        elif backend == "compiled" and self.table.dtype == torch.float32:
            features = compiled_hash.encode(points, self.table, layout)
        else:
            features = eager_hash.encode(points, self.table, layout)
        return pad(features, (0, self.layout.width - layout.width))

    def _try_out(self) -> None:
        try:
            compiled_hash.try_out(self.layout, self.table.device)
        except CompilationFailed as failure:
            if not self._may_change:
                raise ConfigError(
                    f"hash-grid backend 'compiled' was asked for, but compiling failed: {failure}. "
                    f"Choose 'eager', or mend the compiler."
                ) from failure
            self.backend, self.reason = "eager", f"not compiled: compiling failed: {failure}"
            self._say_if_slow()
        self._tried_out = True

    def _say_if_slow(self) -> None:
        if self._may_change and self.backend == "eager":
            logging.getLogger(__name__).warning(
                "the hash grid is computed by plain torch, which is several times slower (%s)",
                self.reason,
            )


def _refuse_another_order(
    encoding: HashEncoding, state: dict[str, Any], prefix: str, *_: object
) -> None:
    """Before a state is loaded: tinycudann's table is in an order of its own."""
    here = encoding.backend == "tinycudann"
    if not here and f"{prefix}tcnn.encoding.params" in state:
        raise CheckpointError(
            "this hash grid was trained with tinycudann, whose table no other backend reads, but "
            f"here it is computed by '{encoding.backend}' ({encoding.reason}). Load it on a CUDA "
            f"device where tinycudann is installed: {tcnn_hash.INSTALL}."
        )
    if here and f"{prefix}table" in state:
        raise CheckpointError(
            "this hash grid was trained without tinycudann, which reads no other backend's table, "
            f"but here it is computed by tinycudann ({encoding.reason}). Load it on a CPU, or "
            "where tinycudann is not installed."
        )
