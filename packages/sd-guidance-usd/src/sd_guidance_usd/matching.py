"""A pose classifier without training: pictures are compared with one template of each class.

    p(c|x) = softmax_c(s_tex·s_ori/τ_pose)

RecDreamer, section 3.3 and appendix B.1. The texture similarity s_tex tells the front from the
back; it is alike for left and right, as the encoders were trained on mirrored pictures. The
orientation similarity s_ori tells left from right.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor
from torch.nn.functional import interpolate, normalize

from sd_core.config import Options, option
from sd_core.encoders.features import Extractor
from sd_core.errors import ConfigError
from sd_core.shapes import Images, Saliency
from sd_guidance_usd.augmentation import colour_jitter, noise_and_shape
from sd_guidance_usd.distances import distances
from sd_guidance_usd.foreground import (
    Patches,
    PatchMask,
    foreground_mask,
    principal_axis,
    towards_the_object,
)
from sd_guidance_usd.rectifier import LogProbabilities, Probabilities

Similarities = Float[Tensor, "batch classes"]
# Of one picture the patches that are on, [n width], and the column coordinate of each, [n].
Shown = tuple[Tensor, Tensor]


class MatchingOptions(Options):
    """The paper's values. The released code's: normalise = "released", pose_temperature = 0.01."""

    model: str | None = option(
        None, "Vision transformer, a folder or an id of the hub; by default the caller's."
    )
    size: int | None = option(
        None, "Side of its pictures in pixels; by default what its processor says.", ge=1
    )
    patch_temperature: float = option(
        0.01, "How sharply a patch chooses its matches.", symbol="τ_pat", gt=0
    )
    pose_temperature: float = option(
        0.05, "How sharply classes are told apart.", symbol="τ_pose", gt=0
    )
    normalise: Literal["paper", "released"] = option(
        "paper", "Softmax of the similarities, or of their shares with the texture in [0, 1]."
    )
    grid: int = option(16, "Rows and columns of patches, resized to that.", symbol="h = w", ge=1)
    augmentations: int = option(
        200,
        "Disturbed copies of each template, whose features are averaged; 0 takes it as it is.",
        ge=0,
    )
    parts: Literal["both", "orientation", "texture"] = option(
        "both", "Which similarities count (table 6)."
    )


def texture_similarity(
    whole: Float[Tensor, "batch width"], template_whole: Float[Tensor, "classes width"]
) -> Similarities:
    """s_tex = cos(f_cls, f_cls^i), eq. 15."""
    return normalize(whole, dim=1) @ normalize(template_whole, dim=1).T


def column_coordinates(mask: PatchMask) -> Float[Tensor, "batch columns"]:
    """m: -0.5 at the leftmost column with a patch that is on, 0.5 at the rightmost, linear.

    One column alone is at 0. Columns beside the object have the coordinate of its nearer edge.
    """
    on = mask.any(dim=1).float()
    column = torch.arange(mask.shape[2], device=mask.device)
    left = on.argmax(dim=1, keepdim=True)
    right = mask.shape[2] - 1 - on.flip(1).argmax(dim=1, keepdim=True)
    place = (column - (left + right) / 2) / (right - left).clamp(min=1)
    return place.clamp(-0.5, 0.5)


def orientation_similarity(
    patches: Patches,
    mask: PatchMask,
    template_patches: Float[Tensor, "classes rows columns width"],
    template_mask: Bool[Tensor, "classes rows columns"],
    *,
    temperature: float,
) -> Similarities:
    """s_ori^i = 1 - 1/|u|·Σ_u Σ_u' w_{u,u'}·|m_u - m_u'^i|, eq. 16, over patches that are on.

    w_{u,·} = softmax_u'(-‖f_u - f_u'^i‖₂/τ_pat): where patch u of the picture is found in the
    template. Printed is 1 - softmax(‖·‖/τ), with a mean over u', which is nearly uniform; this is
    what the released code computes. The coordinates m carry no gradient.
    """
    templates = _shown(template_patches, template_mask)
    everywhere = torch.cat([points for points, _ in templates])
    sizes = [len(points) for points, _ in templates]
    rows = []
    for points, place in _shown(patches, mask):
        away = torch.split(distances(points, everywhere), sizes, dim=1)
        each = zip(away, templates, strict=True)
        rows += [_same_places(own, place, its_place, temperature) for own, (_, its_place) in each]
    return torch.stack(rows).view(len(patches), len(templates))


def _shown(patches: Patches, mask: PatchMask) -> list[Shown]:
    """Of each picture what is on."""
    places = column_coordinates(mask)[:, None].expand(mask.shape).to(patches)
    each = zip(patches, places, mask, strict=True)
    return [(own[on], place[on]) for own, place, on in each]


def _same_places(
    away: Float[Tensor, "points others"],
    place: Float[Tensor, " points"],
    template_place: Float[Tensor, " others"],
    temperature: float,
) -> Float[Tensor, ""]:
    """s_ori of one picture and one template, from all distances of their patches."""
    weight = (-away / temperature).softmax(dim=1)
    moved = (place[:, None] - template_place).abs()
    return 1 - (weight * moved).sum(dim=1).mean()


def pose_log_probabilities(likeness: Similarities, *, temperature: float) -> LogProbabilities:
    """log softmax_c(s/τ_pose), eq. 17."""
    return (likeness / temperature).log_softmax(dim=1)


def released_log_probabilities(likeness: Similarities, *, temperature: float) -> LogProbabilities:
    """log softmax_c(s_c/(T·Σ_k s_k)): the released code, with T = 0.01. For s ≥ 0."""
    return (likeness / likeness.sum(dim=1, keepdim=True) / temperature).log_softmax(dim=1)


def scaled(patches: Patches) -> Patches:
    """(f - min f)/(max f - min f) over all numbers of a picture, so that τ_pat means the same.

    For any encoder: those of CLIP have other magnitudes than those of DINOv2. From the released
    code.
    """
    low, high = (end(dim=(1, 2, 3), keepdim=True) for end in (patches.amin, patches.amax))
    return (patches - low) / (high - low).clamp(min=torch.finfo(patches.dtype).tiny)


@dataclass(frozen=True, eq=False)
class Templates:
    """A picture in [0, 1] of each class, and where its object is if that is known.

    The saliency, on any grid, says which end of the principal component is the object.
    """

    classes: tuple[str, ...]
    pictures: Float[Tensor, "classes 3 height width"]
    saliency: Saliency | None = None

    def __post_init__(self) -> None:
        if len(self.classes) != len(self.pictures):
            raise ConfigError(
                f"there are {len(self.pictures)} templates for {len(self.classes)} classes "
                f"({', '.join(self.classes)}). Give one picture of each class."
            )


class MatchingClassifier:
    """p(c|x) by likeness to templates; differentiable, and no part of any state."""

    def __init__(
        self,
        templates: Templates,
        *,
        extractor: Extractor,
        options: MatchingOptions,
        generator: Generator,
    ) -> None:
        self.classes = templates.classes
        self._extractor, self._options = extractor, options
        with torch.no_grad():
            whole, patches = self._averaged(templates.pictures, generator)
            axis = principal_axis(patches.flatten(0, 1))
            mean_patches = patches.mean(dim=0)
            saliency = None
            if templates.saliency is not None:
                saliency = self._on_grid(templates.saliency[..., None].to(mean_patches))[..., 0]
            self._axis = towards_the_object(axis, mean_patches, saliency)
            self._whole, self._patches = whole, scaled(mean_patches)
            self.template_mask = self.foreground(mean_patches)

    def __call__(self, images: Images) -> Probabilities:
        return self.log_probabilities(images).exp()

    def log_probabilities(self, images: Images) -> LogProbabilities:
        texture, orientation = self.similarities(images)
        likeness = {
            "both": texture * orientation,
            "texture": texture,
            "orientation": orientation,
        }[self._options.parts]
        temperature = self._options.pose_temperature
        if self._options.normalise == "released":
            return released_log_probabilities(likeness, temperature=temperature)
        return pose_log_probabilities(likeness, temperature=temperature)

    def similarities(self, images: Images) -> tuple[Similarities, Similarities]:
        """Texture and orientation; the former in [0, 1] for the released form, (cos + 1)/2."""
        features = self._extractor(images)
        patches = self._on_grid(features.patches)
        texture = texture_similarity(features.whole, self._whole)
        if self._options.normalise == "released":
            texture = (texture + 1) / 2
        orientation = orientation_similarity(
            scaled(patches),
            self.foreground(patches),
            self._patches,
            self.template_mask,
            temperature=self._options.patch_temperature,
        )
        return texture, orientation

    def foreground(self, patches: Patches) -> PatchMask:
        """Where the object is, for patches on the grid, by the templates' axis."""
        return foreground_mask(self._axis.scores(patches.detach()))

    def _averaged(
        self, pictures: Images, generator: Generator
    ) -> tuple[Float[Tensor, "classes wide"], Float[Tensor, "copies classes rows columns deep"]]:
        """Global tokens, averaged over disturbed copies; patches of each recoloured copy."""
        copies = self._options.augmentations
        if not copies:
            plain = self._extractor(pictures)
            return plain.whole, self._on_grid(plain.patches)[None]
        whole = [self._extractor(noise_and_shape(pictures, generator)).whole for _ in range(copies)]
        patches = [
            self._on_grid(self._extractor(colour_jitter(pictures, generator)).patches)
            for _ in range(copies)
        ]
        return torch.stack(whole).mean(dim=0), torch.stack(patches)

    def _on_grid(self, patches: Patches) -> Float[Tensor, "batch grid grid width"]:
        """grid × grid patches, bilinear."""
        grid = (self._options.grid, self._options.grid)
        if patches.shape[1:3] == grid:
            return patches
        channels_first = patches.permute(0, 3, 1, 2)
        resized = interpolate(channels_first, grid, mode="bilinear", antialias=True)
        return resized.permute(0, 2, 3, 1)
