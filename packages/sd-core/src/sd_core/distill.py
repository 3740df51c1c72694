"""The loop: render, judge, move the scene, let the method learn."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import isfinite
from statistics import fmean

import torch
from torch import Generator, Tensor

from sd_core.cameras import CameraBatch
from sd_core.errors import ConfigError, NonFiniteGradientError
from sd_core.guidance import AbstractGuidance, Guided
from sd_core.learning_rate import set_rates
from sd_core.prior import AbstractPrior
from sd_core.renderer import AbstractRenderer
from sd_core.shapes import Images, Latents
from sd_core.step import Step


@dataclass(frozen=True, eq=False)
class StepReport:
    """One finished step."""

    step: Step
    logs: dict[str, float]


def distill(
    *,
    renderer: AbstractRenderer,
    prior: AbstractPrior,
    guidance: AbstractGuidance,
    sample_cameras: Callable[[Generator], CameraBatch],
    optimiser: torch.optim.Optimizer,
    generator: Generator,
    steps: range,
    rate_factor: Callable[[Step], float] | None = None,
) -> Iterator[StepReport]:
    """Distil the prior's score into the scene, one step for each report that is asked for.

    Schedules run over 0 ... `steps.stop`, so that `range(10, 20)` goes on where `range(10)` of the
    same 20 steps stopped. The caller prints, saves and stops; nothing here calls back.
    `rate_factor` says by how much the optimiser's step sizes are multiplied at a step.
    """
    for index in steps:
        step = Step(index, steps.stop)
        renderer.prepare(step, generator)
        cameras = sample_cameras(generator)
        rendering = renderer(cameras)
        latents = prior.encode(rendering.images, generator=generator)
        check_shape(rendering.images, latents, prior)

        clean = latents.detach()
        guided = guidance.gradient(clean, cameras, step=step, generator=generator)
        norms = guided.gradient.flatten(1).norm(dim=1, dtype=torch.float32).tolist()
        if not all(map(isfinite, norms)):
            _refuse_non_finite(guidance, guided, clean, step)

        if rate_factor is not None:
            set_rates(optimiser, rate_factor(step))
        optimiser.zero_grad(set_to_none=True)
        regularisation = renderer.regularisation(rendering)
        del rendering  # maps that nobody asked for would keep the whole graph of the views alive
        backward(latents, guided.gradient, regularisation)
        _refuse_broken_slopes(optimiser, step)
        optimiser.step()

        learned = guidance.update_estimator(clean, cameras, guided, step=step, generator=generator)
        logs = {"gradient_norm": fmean(norms), "t": fmean(guided.t.tolist())}
        logs |= {**guided.logs, **learned}
        del guided  # its observations may hold a graph of the network
        yield StepReport(step, logs)


def backward(latents: Latents, gradient: Latents, regularisation: Tensor | None) -> None:
    """θ.grad += (1/b)·Σ_i gᵢ·∂latentsᵢ/∂θ + ∂regularisation/∂θ. The only batch mean."""
    roots: list[Tensor] = [latents]
    gradients: list[Tensor | None] = [gradient / len(latents)]
    if regularisation is not None:
        roots.append(regularisation)
        gradients.append(None)
    torch.autograd.backward(roots, gradients)


def _refuse_broken_slopes(optimiser: torch.optim.Optimizer, step: Step) -> None:
    """Before they are in the scene, from where no later step brings it back."""
    slopes = [
        parameter.grad
        for group in optimiser.param_groups
        for parameter in group["params"]
        if parameter.grad is not None
    ]
    if not slopes or bool(torch.nn.utils.get_total_norm(slopes).isfinite()):
        return
    raise NonFiniteGradientError(
        f"the scene's own gradient is not finite at step {step.index}, though the guidance's is. "
        "Try weaker regularisers or a smaller learning rate, or the prior's VAE in float32."
    )


def check_shape(images: Images, latents: Latents, prior: AbstractPrior) -> None:
    """Views that the prior cannot take are refused with both shapes."""
    if latents.shape[1:] == prior.latent_shape:
        return
    raise ConfigError(
        f"the scene's views of shape {tuple(images.shape[1:])} become latents of shape "
        f"{tuple(latents.shape[1:])}, but the prior diffuses {prior.latent_shape}. Set the "
        "renderer's size to what the prior takes, or choose another renderer."
    )


def _refuse_non_finite(
    guidance: AbstractGuidance, guided: Guided, clean: Latents, step: Step
) -> None:
    finite = guided.gradient.isfinite().flatten(1).all(dim=1)
    if finite.all():  # then it was the norm alone that overflowed
        return
    if not clean.isfinite().all():  # then the method is not to blame
        raise NonFiniteGradientError(
            f"the scene's views are not finite at step {step.index}: an earlier step broke it. "
            "Try a smaller learning rate or regularisation."
        )
    bad = [int(t) for t, fine in zip(guided.t, finite, strict=True) if not fine]
    raise NonFiniteGradientError(
        f"guidance '{guidance.name}' gave a non-finite gradient at step {step.index} "
        f"(t = {bad[0]}, {len(bad)} of {len(finite)} samples). "
        "Try a smaller learning rate or guidance scale, or run the prior in float32."
    )
