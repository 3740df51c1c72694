"""Pictures to choose a template of each class from, the prior's own or somebody's, and a choice.

They are rounded to 8 bits before anything is done with them, since they are kept in files: a
resumed run, which reads those, has the same.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Generator, Tensor

from sd_core.encoders.features import Extractor
from sd_core.errors import ConfigError
from sd_core.picture_folder import picture_files, read_picture
from sd_core.pictures import to_bytes
from sd_core.prior import AbstractPrior
from sd_core.shapes import Images
from sd_guidance_usd.prior_pictures import AT_ONCE, PriorPictures
from sd_guidance_usd.separation import warn_if_alike
from sd_guidance_usd.templates import of_one_size


@torch.no_grad()
def candidate_pictures(
    prior: AbstractPrior, text: str, *, count: int, generator: Generator
) -> Images:
    """The prior's own pictures of a text."""
    own = PriorPictures(prior, text, negative="", scale=7.5, count=count, steps=25)
    decoded = [prior.decode(some) for some in torch.split(own.sample(generator), AT_ONCE)]
    return _of_8_bits(torch.cat(decoded)).to(prior.device)


def read_candidates(folder: Path) -> dict[str, Images]:
    """FOLDER/front has pictures of the class "front", and so on; stretched to one size."""
    folders = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    files = {path.name: found for path in folders if (found := picture_files(path))}
    if len(files) < 2:
        raise ConfigError(
            f"pictures is '{folder}', which has {len(files)} folders of pictures. Give one with a "
            "folder for each class, such as front, side and back. A folder with one picture of "
            "each is for guidance.classifier.templates."
        )
    pictures = of_one_size({path: read_picture(path) for own in files.values() for path in own})
    return {
        name: _of_8_bits(torch.stack([pictures[path] for path in own]))
        for name, own in files.items()
    }


@torch.no_grad()
def choose_templates(
    prior: AbstractPrior,
    texts: Mapping[str, str],
    extractor: Extractor,
    *,
    candidates: int,
    generator: Generator,
) -> dict[str, Float[Tensor, "3 height width"]]:
    """For each class the most typical of the prior's own pictures of its text."""
    found, wholes = {}, {}
    for name, text in texts.items():
        pictures = candidate_pictures(prior, text, count=candidates, generator=generator)
        wholes[name] = extractor(pictures).whole
        found[name] = pictures[most_typical(wholes[name])]
    warn_if_alike(wholes)
    return found


def most_typical(features: Float[Tensor, "pictures width"]) -> int:
    """The medoid by cosines: argmax_i Σ_j cos(f_i, f_j). What a noisy text gets wrong is few."""
    unit = features / features.norm(dim=1, keepdim=True)
    return int((unit @ unit.T).sum(dim=1).argmax())


def _of_8_bits(images: Images) -> Images:
    levels: UInt8[np.ndarray, "batch height width 3"] = to_bytes(images)
    return torch.from_numpy(levels).movedim(-1, 1).contiguous().float() / 255
