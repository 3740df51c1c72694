"""What camera a network looks through: the pose, added to its time embedding."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from sd_core.cameras import CameraBatch
from sd_core.errors import ConfigError

POSE_NUMBERS = 16  # camera_to_world, 4×4, row by row

CameraStart = Literal["zero", "random"]


class CameraCondition(nn.Module):
    """e(t, c) = e(t) + m·MLP(vec(camera_to_world)), MLP = Linear(SiLU(Linear(·))) of e's width.

    m is 1 where a sample is shown its camera and 0 where it is camera-free. Camera-free means that
    nothing is added. threestudio sends a zero pose through the MLP instead, whose biases still add
    W₂·SiLU(b₁) + b₂: its "no camera" is one more camera, which moves while the MLP learns.

    Start "zero": W₂ = b₂ = 0, so that the network begins as the pretrained one. Start "random":
    torch's own, as published, where the network differs from the pretrained one from step 0 on.

    A forward hook on the network's time embedding adds the term, and only inside `shown_to`: at
    all other times it leaves the output alone, so the frozen pass keeps its bits. Neither module
    owns the other: the network's weights stay out of this one's `state_dict()`.
    """

    def __init__(self, network: nn.Module, *, start: CameraStart) -> None:
        super().__init__()
        time_embedding = _time_embedding(network)
        width, device = _width_and_device(time_embedding)
        last = nn.Linear(width, width, device=device)
        if start == "zero":
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        self.mlp = nn.Sequential(nn.Linear(POSE_NUMBERS, width, device=device), nn.SiLU(), last)
        self._term: Tensor | None = None
        # For good, not for each call: what torch.compile made of a network looks up a flag again,
        # but does not notice a hook that came later.
        self._hook = time_embedding.register_forward_hook(self._add_term)

    @contextmanager
    def shown_to(self, cameras: CameraBatch, shown: Bool[Tensor, " batch"]) -> Iterator[None]:
        """The network's calls in here see `cameras`, each sample where `shown` is true."""
        weight = next(self.mlp.parameters())
        poses = cameras.camera_to_world.flatten(1).to(weight)
        self._term = shown.to(weight)[:, None] * self.mlp(poses)
        try:
            yield
        finally:
            self._term = None

    def leave(self) -> None:
        """Take the hook off the network, for good."""
        self._hook.remove()

    def _add_term(self, module: nn.Module, inputs: Any, embedding: Tensor) -> Tensor | None:
        if self._term is None:
            return None  # None tells torch to keep the output as it is
        return embedding + self._term.to(embedding.dtype)


def _time_embedding(network: nn.Module) -> nn.Module:
    found = getattr(network, "time_embedding", None)
    if not isinstance(found, nn.Module):
        raise ConfigError(
            f"a {type(network).__name__} has no time embedding to add the camera to. Methods that "
            "tell their estimator the camera need a UNet: Stable Diffusion 1, 2 or XL."
        )
    return found


def _width_and_device(time_embedding: nn.Module) -> tuple[int, torch.device]:
    """How many numbers the embedding has, which its last layer says; and where it lives."""
    last = [m for m in time_embedding.modules() if isinstance(m, nn.Linear)][-1]
    return last.out_features, last.weight.device
