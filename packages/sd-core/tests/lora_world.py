"""What the tests of the LoRA estimator share: tiny priors, learners, and how they are asked."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

pytest.importorskip("diffusers")

from sd_core.condition import Condition
from sd_core.estimator import EstimatorOptions
from sd_core.noising import Noised, draw
from sd_core.prior import AbstractPrior, PriorContext
from sd_core.priors.diffusion.diffusion_prior import StableDiffusionPrior
from sd_core.priors.diffusion.lora import LoraEstimator, LoraOptions
from sd_core.priors.diffusion.stable_diffusion import StableDiffusionOptions, build
from sd_core.step import Step
from sd_core.testing import exact
from sd_core.testing.tiny_pipelines import Family

CPU = torch.device("cpu")
BATCH = 3
CAMERAS = exact.some_cameras(BATCH)
STEP = Step(3, 20)
# A fast learner, so that few steps move it far.
QUICK = EstimatorOptions(learning_rate=1e-2, camera_dropout=0)
SHARED = QUICK.model_copy(update={"shared_noise": True})

Folders = dict[Family, Path]


def load(folder: Path, **options: Any) -> StableDiffusionPrior:
    return build(StableDiffusionOptions(model=str(folder), **options), PriorContext(CPU))


def learner(
    prior: StableDiffusionPrior,
    learning: EstimatorOptions = QUICK,
    *,
    view_conditioned: bool = True,
    **lora: Any,
) -> LoraEstimator:
    return LoraEstimator(prior, LoraOptions(**lora), learning, view_conditioned=view_conditioned)


def some_noised(prior: AbstractPrior, count: int = BATCH, seed: int = 0) -> Noised:
    t = torch.linspace(200, 800, count).long()
    clean = exact.some_latents(prior, count, seed)
    return draw(prior.schedule, clean, t, Generator().manual_seed(seed))


def some_condition(prior: AbstractPrior, count: int = BATCH) -> Condition:
    return prior.encode_text([exact.PROMPT] * count)


def frozen(prior: AbstractPrior) -> Tensor:
    noised = some_noised(prior)
    return prior.predict_noise(noised.noisy, noised.t, some_condition(prior)).detach()


def fit(
    estimator: LoraEstimator,
    prior: AbstractPrior,
    times: int = 1,
    *,
    predicted: Tensor | None = None,
    shown: Tensor | None = None,
    seed: int = 0,
) -> float:
    loss = 0.0
    for index in range(times):
        loss = estimator.fit(
            some_noised(prior),
            some_condition(prior),
            CAMERAS,
            predicted=predicted,
            shown=shown,
            step=STEP,
            generator=Generator().manual_seed(seed + index),
        )["estimator_loss"]
    return loss


def ask(estimator: LoraEstimator, prior: AbstractPrior, *, camera: bool = True) -> Tensor:
    noised, condition = some_noised(prior), some_condition(prior)
    return estimator.predict_noise(noised, condition, CAMERAS if camera else None)


def slopes(estimator: LoraEstimator, noise: Tensor) -> list[Tensor]:
    """Gradients of one scalar of the prediction, in all that the estimator learns."""
    with estimator.adapter.on():
        return list(torch.autograd.grad(noise.square().sum(), list(estimator.parameters())))
