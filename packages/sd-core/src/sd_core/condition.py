"""What a prior is told about each sample."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from sd_core.cameras import CameraBatch
from sd_core.shapes import PerSample


@dataclass(frozen=True, eq=False)
class Condition:
    """What the prior is told about each sample: made by `encode_text`, read by `predict_noise`.

    `prompts` are the texts in clear. `tensors` are the prior's own (embeddings, masks), each with
    the batch as its first dimension. `cameras` is set for a prior that was told the cameras.
    """

    prompts: tuple[str, ...]
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    cameras: CameraBatch | None = None

    def __len__(self) -> int:
        return len(self.prompts)

    @staticmethod
    def concatenate(conditions: "Sequence[Condition]") -> "Condition":
        """One after the other along the batch; all must come from the same prior."""
        cameras = [c.cameras for c in conditions if c.cameras is not None]
        return Condition(
            prompts=tuple(prompt for c in conditions for prompt in c.prompts),
            tensors={
                name: torch.cat([c.tensors[name] for c in conditions])
                for name in conditions[0].tensors
            },
            cameras=CameraBatch.concatenate(cameras) if len(cameras) == len(conditions) else None,
        )

    def blended(self, other: "Condition", share: PerSample) -> "Condition":
        """share·this + (1 - share)·other of each number; what is no number must be equal."""
        tensors = {}
        for name, own in self.tensors.items():
            weight = share.to(own.device).view(-1, *[1] * (own.ndim - 1))
            is_number = own.is_floating_point()
            tensors[name] = (
                torch.lerp(other.tensors[name], own, weight.to(own.dtype)) if is_number else own
            )
        return Condition(self.prompts, tensors, self.cameras)


@dataclass(frozen=True, eq=False)
class Away:
    """What each sample is pushed away from (Perp-Neg): conditions, and for each sample a weight of
    each, at most 0."""

    conditions: tuple[Condition, ...]
    weights: Float[Tensor, "batch negatives"]


@dataclass(frozen=True, eq=False)
class Texts:
    """What guides the prior at each sample: a text, what it is held against, what it is not."""

    text: Condition
    negative: Condition
    away: Away | None = None
