"""One picture for each pose: from a folder, or chosen from what the prior itself makes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Generator, Tensor

from sd_core.errors import ConfigError
from sd_core.prior import AbstractPrior
from sd_guidance_usd.features import Extractor
from sd_guidance_usd.matching import Templates
from sd_guidance_usd.prior_pictures import AT_ONCE, PriorPictures

MIRRORED = "mirrored_"
USUALLY_MIRRORED = "side"
_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


def load_templates(folder: Path, mirrored: Sequence[str] | None) -> Templates:
    """front.png is the class "front", and so on; those in `mirrored` count mirrored, too."""
    paths = sorted(path for path in folder.glob("*") if path.suffix.lower() in _SUFFIXES)
    if len({path.stem for path in paths}) < 2:
        raise ConfigError(
            f"guidance.classifier.templates is '{folder}', which has {len(paths)} pictures. Give a "
            "folder with one for each pose, such as front.png, side.png and back.png."
        )
    pictures = {path.stem: _read(path) for path in paths}
    sizes = {picture.shape for picture in pictures.values()}
    if len(sizes) > 1:
        raise ConfigError(f"the templates in '{folder}' differ in size. Make them all of one size.")
    return with_mirrored(pictures, mirrored)


def with_mirrored(
    pictures: Mapping[str, Float[Tensor, "3 height width"]], mirrored: Sequence[str] | None
) -> Templates:
    """Each picture a class; those named also the other way round, as "mirrored_NAME"."""
    classes = class_names(tuple(pictures), mirrored)
    turned = {MIRRORED + name: picture.flip(-1) for name, picture in pictures.items()}
    every = {**pictures, **turned}
    return Templates(classes, torch.stack([every[name] for name in classes]))


def class_names(names: Sequence[str], mirrored: Sequence[str] | None) -> tuple[str, ...]:
    """Those of the pictures, and "mirrored_" of those that count mirrored, too: USUALLY_MIRRORED
    where it is there, unless told."""
    if mirrored is None:
        mirrored = [USUALLY_MIRRORED] if USUALLY_MIRRORED in names else []
    for name in mirrored:
        if name not in names:
            raise ConfigError(
                f"guidance.classifier.mirrored names '{name}', but the templates are "
                f"{', '.join(names)}. Name some of them, or none."
            )
    return (*names, *(MIRRORED + name for name in mirrored))


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
    found = {}
    for name, text in texts.items():
        own = PriorPictures(prior, text, negative="", scale=7.5, count=candidates, steps=25)
        decoded = [prior.decode(some) for some in torch.split(own.sample(generator), AT_ONCE)]
        pictures = torch.cat(decoded).clamp(0, 1)
        found[name] = pictures[most_typical(extractor(pictures).whole)]
    return found


def most_typical(features: Float[Tensor, "pictures width"]) -> int:
    """The medoid by cosines: argmax_i Σ_j cos(f_i, f_j). What a noisy text gets wrong is few."""
    unit = features / features.norm(dim=1, keepdim=True)
    return int((unit @ unit.T).sum(dim=1).argmax())


def _read(path: Path) -> Float[Tensor, "3 height width"]:
    try:
        with Image.open(path) as file:
            pixels = np.array(file.convert("RGB"))
    except OSError as error:
        raise ConfigError(f"cannot read the template '{path}': {error}.") from None
    return torch.from_numpy(pixels).movedim(2, 0).float() / 255
