"""What differs between families of models, behind one contract.

To add a family (Stable Diffusion 3, FLUX): write one file with a class that has these methods, and
name it in `known_families`. The rest of the prior never asks which family it has: schedule, output
kind, latent scaling, caching and windows are the same for all.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from sd_core.errors import ConfigError
from sd_core.priors.diffusion.model_files import ModelFiles
from sd_core.priors.diffusion.text_windows import LongPrompts
from sd_core.shapes import Latents, Timesteps

# One prompt → its tensors, each with a first dimension of 1. The one named "text" is [1 tokens d].
EncodeOne = Callable[[str], Mapping[str, Tensor]]


@dataclass(frozen=True)
class TextSettings:
    """How a family's text encoders are run, and for pictures of which height and width."""

    dtype: torch.dtype
    device: torch.device
    long_prompts: LongPrompts
    picture_size: tuple[int, int]


@runtime_checkable
class Family(Protocol):
    """One family of models."""

    name: str
    network: str  # the part of the pipeline that predicts: "unet", "transformer"

    def matches(self, files: ModelFiles) -> bool:
        """Whether the files are a model of this family."""
        ...

    def text_encoder(self, files: ModelFiles, settings: TextSettings) -> EncodeOne:
        """Loads the text encoders. They live as long as what is returned."""
        ...

    def predict(
        self, network: nn.Module, noisy: Latents, t: Timesteps, tensors: Mapping[str, Tensor]
    ) -> Latents:
        """The network's output in its own terms; everything is in the network's dtype."""
        ...


def known_families() -> Sequence[Family]:
    """The most particular first: the first that matches is taken."""
    from sd_core.priors.diffusion.family_sd import StableDiffusion
    from sd_core.priors.diffusion.family_sdxl import StableDiffusionXL

    return (StableDiffusionXL(), StableDiffusion())


def family_of(files: ModelFiles) -> Family:
    """The family of a model, by what its configuration says, not by its name."""
    families = known_families()
    for family in families:
        if family.matches(files):
            return family
    raise ConfigError(
        f"the model '{files.source.name}' is a {files.index.get('_class_name')}, none of the "
        f"families that the prior knows: {', '.join(sorted(f.name for f in families))}. Choose "
        "another model, or add its family (sd_core/priors/diffusion/family.py says how)."
    )
