"""How good an object looks from its best side, by T3Bench's definition: the metric `t3-quality`.

T3Bench (He et al. 2023, arXiv 2310.02977), as its run_eval_quality.py and render/meshrender.py
have it:

    b_i = max_k r(render k from vertex i of an icosphere, prompt)     five renders at each vertex
    v = b, three rounds of v_i ← (v_i + Σ_{j ∈ N(i)} v_j)/(1 + |N(i)|)
    quality = 20·max_i v_i + 50

with r the ImageReward; a method's number is the mean over the prompts. The five renders stand in
the same place and look through 60°, 45°, 36°, 30° and 24°: they come closer and closer.

What is else there: 162 vertices (two subdivisions; JSD's paper says level 0, which are 12), meshes
scaled into the cube [-1, 1]³, cameras at distance 2.2, 512 pixels, a black background, no shading.
Here the scene, its background and its size are as they are. The widest render is what `evaluate`
sees the scene through, and the others are as much closer as T3Bench's, so that a thing which fills
the picture at first is cut at its borders later.
"""

import math
from typing import Any, ClassVar, Final, Literal

import torch
from jaxtyping import Float, Int
from pydantic import model_validator
from torch import Tensor

from sd_core.cameras import CameraBatch, icosphere_cameras
from sd_core.config import Options, option
from sd_core.errors import ConfigError
from sd_core.metric import MetricContext
from sd_core.shapes import Images
from sd_metrics.icosphere import (
    Neighbours,
    PerVertex,
    nearest_vertices,
    neighbour_average,
    neighbours,
    vertices,
)
from sd_metrics.image_reward import TOKENIZER, ImageReward
from sd_metrics.per_view import AbstractPerViewMetric, PerView
from sd_metrics.reward import AbstractReward, ClipReward

FIELDS_DEG: Final = (60.0, 45.0, 36.0, 30.0, 24.0)

# How far a camera's direction may be from its vertex: float32 labels, and nothing else.
_SAME_PLACE = 1e-3


class T3QualityOptions(Options):
    """Whose judgement, and from how many sides. Pictures read: 12, 42 or 162 times `renders`."""

    reward: Literal["clip", "image-reward"] = option(
        "clip",
        "Who judges a picture: ImageReward as in T3Bench, which needs `weights`, or CLIP's cosine, "
        "with which the numbers are not T3Bench's and cannot be compared with them.",
    )
    model: str | None = option(
        None, "For reward 'clip': a folder or an id; by default what suits the prior.", min_length=1
    )
    weights: str | None = option(
        None,
        "For reward 'image-reward': the file ImageReward.pt of THUDM/ImageReward, or the same as "
        "safetensors.",
        min_length=1,
    )
    tokenizer: str = option(
        TOKENIZER, "For reward 'image-reward': a folder or an id with BERT's tokenizer."
    )
    views: Literal["icosphere", "as-given"] = option(
        "icosphere",
        "From all around, or the pictures there are: then the mean of their rewards, ×20 + 50.",
    )
    subdivision: int = option(
        1, "Of the icosphere: 0, 1, 2 are 12, 42, 162 vertices (T3Bench: 2, JSD: 0).", ge=0, le=2
    )
    renders: int = option(
        5, "From each vertex, closer and closer; the best counts.", symbol="k", ge=1, le=5
    )
    rounds: int = option(3, "Averages with the neighbouring vertices.", ge=0, le=100)

    @model_validator(mode="after")
    def _one_reward(self) -> "T3QualityOptions":
        if self.reward == "image-reward" and self.weights is None:
            raise ValueError(
                "reward 'image-reward' needs its weights: name the file with weights, or take "
                "reward 'clip'"
            )
        unused = {"clip": "weights", "image-reward": "model"}[self.reward]
        if getattr(self, unused) is not None:
            raise ValueError(
                f"reward '{self.reward}' has no use for {unused}: leave it out, or take the other "
                "reward"
            )
        return self


class T3Quality(AbstractPerViewMetric):
    """t3-quality         20·r + 50 of the best side's averaged reward r; see the module
    t3-quality-clip    the same of another reward than T3Bench's, in no table of theirs
    """

    higher_is_better: ClassVar[bool | None] = True

    def __init__(self, options: T3QualityOptions, context: MetricContext) -> None:
        super().__init__()
        self._options = options
        self._reward = _reward(options, context)
        own = options.reward == "image-reward"
        self._value = "t3-quality" if own else f"t3-quality-{options.reward}"
        self._vertices = vertices(options.subdivision)

    def reset(self) -> None:
        super().reset()
        self._places: list[Int[Tensor, " batch"]] = []

    def read(self, images: Images, prompt: str) -> PerView:
        return self._reward.scores(images, prompt)[:, None]

    def update(self, images: Images, prompt: str, cameras: CameraBatch | None) -> None:
        places = self._places_of(cameras) if self._options.views == "icosphere" else None
        super().update(images, prompt, cameras)
        if places is not None:
            self._places.append(places)

    def compute(self) -> dict[str, float]:
        rewards = self.views()[:, 0]
        if self._options.views == "as-given":
            return {self._value: scaled(rewards.mean())}
        best = best_of_renders(rewards, self._checked_places(), len(self._vertices))
        return {self._value: quality(best, neighbours(self._vertices), self._options.rounds)}

    def wanted_cameras(self, *, distance: float, vertical_fov_deg: float) -> CameraBatch | None:
        if self._options.views == "as-given":
            return None
        return icosphere_renders(
            self._options.subdivision,
            self._options.renders,
            distance=distance,
            vertical_fov_deg=vertical_fov_deg,
        )

    def recipe(self) -> dict[str, Any]:
        told = self._options
        sides = (
            {"vertices": len(self._vertices), "renders": told.renders, "rounds": told.rounds}
            if told.views == "icosphere"
            else {}
        )
        t3bench = T3QualityOptions(subdivision=2)
        as_there = told.reward == "image-reward" and all(
            getattr(told, name) == getattr(t3bench, name)
            for name in ("views", "subdivision", "renders", "rounds")
        )
        return {
            **self._reward.recipe(),
            "views": told.views,
            **sides,
            "scale": "20·reward + 50",
            "t3bench_definition": as_there,
        }

    def _places_of(self, cameras: CameraBatch | None) -> Int[Tensor, " batch"]:
        if cameras is None:
            raise ConfigError(
                "t3-quality looks from the vertices of an icosphere, but nobody knows the cameras "
                'of these pictures. Set views = "as-given" for the mean of their rewards.'
            )
        directions = cameras.direction.detach().to("cpu", torch.float64)
        places, apart = nearest_vertices(directions, self._vertices)
        if bool((apart > _SAME_PLACE).any()):
            raise ConfigError(
                f"t3-quality looks from the {len(self._vertices)} vertices of an icosphere, but "
                "there are pictures from other places. Give it the cameras that it wants, or set "
                'views = "as-given".'
            )
        return places

    def _checked_places(self) -> Int[Tensor, " views"]:
        places = torch.cat(self._places)
        counts = places.bincount(minlength=len(self._vertices))
        if not bool((counts == self._options.renders).all()):
            raise ConfigError(
                f"t3-quality has {int(counts.min())} to {int(counts.max())} pictures from each of "
                f"{len(counts)} vertices, expected {self._options.renders}. Give it all the "
                "pictures of one object, from the cameras that it wants."
            )
        return places


def quality(best: PerVertex, near: Neighbours, rounds: int) -> float:
    """20·max_i v_i + 50, with v what `neighbour_average` makes of the best rewards b."""
    return scaled(neighbour_average(best, near, rounds).max())


def scaled(reward: Float[Tensor, ""]) -> float:
    """20·r + 50, T3Bench's scale: ImageReward's -2.5 to 2.5 are 0 to 100."""
    return 20 * float(reward) + 50


def best_of_renders(
    rewards: Float[Tensor, " views"], places: Int[Tensor, " views"], count: int
) -> PerVertex:
    """b_i = max of the rewards of the pictures from vertex i, of `count` vertices."""
    none = torch.full((count,), -torch.inf, dtype=rewards.dtype, device=rewards.device)
    return none.scatter_reduce(0, places.to(rewards.device), rewards, "amax")


def icosphere_renders(
    subdivision: int, renders: int, *, distance: float, vertical_fov_deg: float
) -> CameraBatch:
    """All vertices through the widest field, then all through the next, `renders` times.

    tan(f_k/2) = tan(f/2)·tan(φ_k/2)/tan(φ_0/2), with f the given field and φ T3Bench's 60° ... 24°:
    1, 1.4, 1.8, 2.2 and 2.7 times as large in the picture. The first is f itself.
    """
    widest, first = math.radians(vertical_fov_deg), math.radians(FIELDS_DEG[0])
    ratios = [math.tan(math.radians(each) / 2) / math.tan(first / 2) for each in FIELDS_DEG]
    fields = [2 * math.atan(math.tan(widest / 2) * ratio) for ratio in ratios[:renders]]
    return CameraBatch.concatenate(
        [
            icosphere_cameras(subdivision, distance=distance, vertical_fov_deg=math.degrees(field))
            for field in fields
        ]
    )


def _reward(options: T3QualityOptions, context: MetricContext) -> AbstractReward:
    if options.weights is not None:
        return ImageReward(options.weights, options.tokenizer, device=context.device)
    return ClipReward(options.model or context.encoders.clip, context.device)
