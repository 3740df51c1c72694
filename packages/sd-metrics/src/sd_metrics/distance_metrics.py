"""How far the views are from a reference: the metrics `fid`, `clip-fid`, `kid` and `ufid`.

| metric   | features                                | distance                          |
|----------|-----------------------------------------|-----------------------------------|
| fid      | Inception's, or a vision transformer's  | Fréchet, Heusel et al. 2017       |
| clip-fid | CLIP's embeddings                       | Fréchet, Kynkäänniemi et al. 2023 |
| kid      | those of fid, or CLIP's                 | kernel, Bińkowski et al. 2018     |
| ufid     | those of fid                            | Fréchet, to every pose as often,  |
|          |                                         | RecDreamer 2025, appendix C.1.1   |

All views of all objects of a method against all pictures of their prompts (RecDreamer's and the
bridge's tables), or each object against the pictures of its prompt (ESD's, with pooled = false).
"""

import logging
from abc import abstractmethod
from collections import Counter
from functools import reduce
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from sd_core.cameras import CameraBatch
from sd_core.errors import ConfigError
from sd_core.metric import AbstractMetric, MetricContext
from sd_core.shapes import Images
from sd_metrics.distance_options import (
    ClipFidOptions,
    FidOptions,
    KidOptions,
    ReferenceOptions,
    UfidOptions,
)
from sd_metrics.extractors import ClipEncoder, Kind, PictureEncoder, shared_encoder
from sd_metrics.frechet import bias_warning, frechet_distance
from sd_metrics.kernel_distance import kernel_distance, kernel_distance_in_subsets
from sd_metrics.moments import Moments, PictureFeatures
from sd_metrics.per_view import AT_ONCE, check_pictures
from sd_metrics.pose_entropies import pose_texts
from sd_metrics.reference import Reference

_NOT_INCEPTION = (
    "These are not the features of Inception: no published {} can be compared with this number. "
    "Give the weights for one that can."
)
# clean-fid, with which CLIP-FID is usually measured, takes ViT-B/32's without the norm.
_UNIT_CLIP = (
    "CLIP's embeddings are taken as unit vectors: no CLIP-FID that was published without the norm "
    "can be compared with this number."
)
# A Fréchet distance is too large, and the more so the fewer the pictures.
_COUNTS = ("pictures", "reference_pictures")
# Features of some views; other batches have other numbers of them.
Batch = Float[Tensor, "_ features"]

ALL_AT_ONCE = 1000  # pictures; more are compared in subsets, as is usual


class AbstractDistance(AbstractMetric):
    """A distance between the features of views and those of a reference."""

    higher_is_better: ClassVar[bool | None] = False

    def __init__(self, options: ReferenceOptions, encoder: PictureEncoder) -> None:
        self.scope = "method" if options.pooled else "object"
        self.reference = Reference.open(Path(options.reference))
        self._encoder = encoder
        # Of the last distance: a recipe is written after the views are forgotten.
        self._told: dict[str, Any] = {}
        self._bias: str | None = None
        self.reset()

    def reset(self) -> None:
        self._seen: list[PictureFeatures] = []
        self._prompts: dict[str, None] = {}
        self._kept: tuple[int, dict[str, None]] = (0, {})

    def end_object(self, name: str) -> None:
        self._kept = (len(self._seen), dict(self._prompts))

    def drop_object(self) -> None:
        count, prompts = self._kept
        del self._seen[count:]
        self._prompts = dict(prompts)

    def update(self, images: Images, prompt: str, cameras: CameraBatch | None) -> None:
        self.reference.pictures_of(prompt)  # one that it has not is told before the work
        check_pictures(images)
        parts = torch.split(images.detach().clamp(0, 1), AT_ONCE)
        self._seen += [self._encoder.features(part).cpu() for part in parts]
        self._prompts[prompt] = None

    def compute(self) -> dict[str, float]:
        if not self._seen:
            raise ConfigError("no picture was compared with the reference. Update the metric.")
        rows = self.reference_rows(tuple(sorted(self._prompts)))
        known = self.reference.features(self._encoder)[rows]
        self._told = {"pictures": sum(map(len, self._seen)), "reference_pictures": len(known)}
        return self.distances(self._seen, known)

    @abstractmethod
    def distances(self, seen: list[Batch], reference: PictureFeatures) -> dict[str, float]:
        """The numbers, of features in batches and of the reference's."""

    def remark(self) -> str | None:
        """What a reader of the number must know, whatever the pictures."""
        return None

    def reference_rows(self, prompts: tuple[str, ...]) -> Int[Tensor, " rows"]:
        """Which pictures count, and how often."""
        return torch.tensor(list(self.reference.pictures_of_all(prompts)))

    def tell(self, **told: int | dict[str, int]) -> None:
        """For the recipe, of the distance that is being computed."""
        self._told.update(told)

    def warn_of_bias(self, count: int, reference: int, width: int) -> None:
        """For the recipe; logged the first time."""
        warning = bias_warning(count, reference, width)
        if warning is not None and self._bias is None:
            logging.getLogger(__name__).warning("%s", warning)
        self._bias = warning

    def recipe(self) -> dict[str, Any]:
        warnings = [each for each in (self.remark(), self._bias) if each is not None]
        return {
            "encoder": self._encoder.recipe(),
            "reference": self.reference.recipe(),
            **self._told,
            **({"warning": " ".join(warnings)} if warnings else {}),
        }


class ClipFid(AbstractDistance):
    """clip-fid: the Fréchet distance of CLIP's embeddings (Kynkäänniemi et al. 2023)."""

    compared_at_equal: ClassVar[tuple[str, ...]] = _COUNTS

    def __init__(self, options: ClipFidOptions, context: MetricContext) -> None:
        model = options.model or context.encoders.clip
        super().__init__(options, shared_encoder("clip", model, context.device))

    def distances(self, seen: list[Batch], reference: PictureFeatures) -> dict[str, float]:
        return {"clip-fid": _frechet(self, seen, reference)}

    def remark(self) -> str | None:
        return _UNIT_CLIP


class Fid(AbstractDistance):
    """fid: the Fréchet distance of Inception's features, or of a vision transformer's."""

    name: ClassVar[str] = "fid"
    compared_at_equal: ClassVar[tuple[str, ...]] = _COUNTS

    def __init__(self, options: FidOptions, context: MetricContext) -> None:
        super().__init__(options, _encoder(options, context))
        self._inception = options.weights is not None

    def distances(self, seen: list[Batch], reference: PictureFeatures) -> dict[str, float]:
        return {self.name: _frechet(self, seen, reference)}

    def remark(self) -> str | None:
        return None if self._inception else _NOT_INCEPTION.format("FID")


class Ufid(Fid):
    """ufid: as fid, against as many pictures of every pose, drawn again with replacement.

    A picture's pose is the one of "PROMPT, from front view" and so on that CLIP finds it nearest
    to, where RecDreamer's authors looked themselves. There are as many of each pose, over all
    prompts together, as make up the pictures that there were.
    """

    name: ClassVar[str] = "ufid"

    def __init__(self, options: UfidOptions, context: MetricContext) -> None:
        super().__init__(options, context)
        self._poses, self._seed = context.encoders.poses, options.seed
        self._clip = ClipEncoder(options.pose_model or context.encoders.clip, context.device)

    def reference_rows(self, prompts: tuple[str, ...]) -> Int[Tensor, " rows"]:
        if self.reference.prompts is None and len(prompts) > 1:
            raise ConfigError(
                f"the reference '{self.reference.folder}' has no captions.json, so nobody knows of "
                f"which of {len(prompts)} prompts its pictures show a pose. Add one, or set "
                "ufid.pooled to false."
            )
        served = dict(sorted(self.reference.pictures_of_all(prompts).items()))
        poses = self._poses_of(served)
        counts = Counter(self._poses[index] for index in poses.tolist())
        self._counts = {pose: counts[pose] for pose in self._poses}
        generator = Generator().manual_seed(self._seed)
        return torch.tensor(list(served))[pose_balanced(poses, self._poses, generator)]

    def distances(self, seen: list[Batch], reference: PictureFeatures) -> dict[str, float]:
        self.tell(poses=self._counts)
        return super().distances(seen, reference)

    def recipe(self) -> dict[str, Any]:
        return {**super().recipe(), "pose_encoder": self._clip.recipe()}

    @torch.no_grad()
    def _poses_of(self, served: dict[int, str]) -> Int[Tensor, " pictures"]:
        """Of each picture the index of its pose: argmax_k cos(v(x), u("prompt, pose_k"))."""
        embedded = self.reference.features(self._clip)
        texts = {
            prompt: self._clip.clip.texts(pose_texts(prompt, self._poses)).cpu()
            for prompt in dict.fromkeys(served.values())
        }
        nearest = [int((texts[prompt] @ embedded[row]).argmax()) for row, prompt in served.items()]
        return torch.tensor(nearest)


class Kid(AbstractDistance):
    """kid: the kernel distance, MMD², of Inception's features or others; not times 1000.

    Over all pictures at once, or else the mean over subsets with its deviation over them.
    """

    def __init__(self, options: KidOptions, context: MetricContext) -> None:
        super().__init__(options, _encoder(options, context, kind=options.extractor))
        self._options = options
        self._deviations: dict[str, float] = {}

    def deviations(self) -> dict[str, float]:
        return self._deviations

    def distances(self, seen: list[Batch], reference: PictureFeatures) -> dict[str, float]:
        features, own = torch.cat(seen), self._options
        self._deviations = {}
        size = own.subset_size
        if size is None:
            if max(len(features), len(reference)) <= ALL_AT_ONCE:
                return {"kid": kernel_distance(features, reference)}
            size = min(ALL_AT_ONCE, len(features), len(reference))
        self.tell(subsets=own.subsets, subset_size=size)
        found = kernel_distance_in_subsets(
            features,
            reference,
            subsets=own.subsets,
            size=size,
            generator=Generator().manual_seed(own.seed),
        )
        self._deviations = {"kid": found.deviation}
        return {"kid": found.mean}

    def remark(self) -> str | None:
        return None if self._options.weights is not None else _NOT_INCEPTION.format("KID")


def pose_balanced(
    poses: Int[Tensor, " pictures"], names: tuple[str, ...], generator: Generator
) -> Int[Tensor, " drawn"]:
    """Indices of ⌈n/k⌉ pictures of each of the k poses, drawn with replacement."""
    each = -(-len(poses) // len(names))
    drawn = []
    for pose, name in enumerate(names):
        members = torch.nonzero(poses == pose).flatten()
        if len(members) == 0:
            raise ConfigError(
                f"none of the {len(poses)} pictures of the reference is seen '{name}', as CLIP "
                "tells poses. Add some that are, or name another pose_model."
            )
        drawn.append(members[torch.randint(len(members), (each,), generator=generator)])
    return torch.cat(drawn)


def _frechet(metric: AbstractDistance, seen: list[Batch], reference: PictureFeatures) -> float:
    own, known = reduce(Moments.merged, map(Moments.of, seen)), Moments.of(reference)
    metric.warn_of_bias(own.count, known.count, own.width)
    return frechet_distance(own, known)


def _encoder(
    options: FidOptions, context: MetricContext, *, kind: Kind | None = None
) -> PictureEncoder:
    if options.weights is not None:
        return shared_encoder("inception", options.weights, context.device)
    usual = context.encoders.clip if kind == "clip" else context.encoders.features
    return shared_encoder(kind or "features", options.model or usual, context.device)
