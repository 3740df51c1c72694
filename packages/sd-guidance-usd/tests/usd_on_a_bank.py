"""USD on a bank of pictures whose score is known, and what it is asked there."""

from dataclasses import replace

import torch
from torch import Generator

from sd_core.config import parse_options
from sd_core.priors.image_bank import ImageBankPrior
from sd_core.step import Step
from sd_core.testing import exact
from sd_guidance_usd.options import USDOptions
from sd_guidance_usd.usd import USD

CAMERAS = exact.some_cameras(4)
STEP = Step(5, 10)
TEXTS = [["a red bear", f"a red bear, {name} view"] for name in ("front", "front", "side", "back")]


def options(**values):
    return parse_options(USDOptions, values, where="guidance")


def bank(weights=(0.4, 0.3, 0.2, 0.1)):
    pictures = torch.rand(4, 3, 4, 4, generator=Generator().manual_seed(0), dtype=torch.float64)
    return ImageBankPrior(pictures, TEXTS, weights=torch.tensor(weights, dtype=torch.float64))


def usd(prior, **values):
    values = {"auxiliary": "", "classifier": {"kind": "exact"}, **values}
    return USD(options(**values), exact.guidance_context(prior))


def context(prior):
    """Without view words, which USD never says, and this prior knows."""
    found = exact.guidance_context(prior)
    return replace(found, prompt=found.prompt.model_copy(update={"views": "none"}))


def answer(method, prior, step=STEP):
    latents = exact.some_latents(prior, 4).double()
    generator = Generator().manual_seed(2)
    return method.gradient(latents, CAMERAS, step=step, generator=generator), generator
