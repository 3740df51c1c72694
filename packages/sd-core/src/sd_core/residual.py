"""The template that most methods fill: a weighted difference of two noise predictions."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from sd_core.cameras import CameraBatch
from sd_core.config import Options, option
from sd_core.correction import Correction, limited, relative_length
from sd_core.guidance import AbstractGuidance, GuidanceContext, Guided
from sd_core.noising import Noised, draw
from sd_core.shapes import Latents, Timesteps
from sd_core.step import Step
from sd_core.timesteps import TimestepOptions, sample_timesteps
from sd_core.view_conditions import view_conditions
from sd_core.weighting import Weighting, weight

# Parts of a prior whose passes may be large.
PriorPart = Literal["network", "decoder"]


@dataclass(frozen=True, eq=False)
class Prediction:
    """One side of a residual: an ε, and what its owner wants to see again when it learns.

    A target may add a `correction`, whose length may depend on what the source says.
    """

    noise: Latents
    observed: Mapping[str, Tensor] = field(default_factory=dict)
    logs: Mapping[str, float] = field(default_factory=dict)
    correction: Correction | None = None


@dataclass(frozen=True, eq=False)
class ObservedResidual:
    """What `ResidualGuidance` hands itself back for learning.

    `terms` are the two noises whose difference the gradient is, the target with its correction;
    `score-distill diagnose` compares them.
    """

    noised: Noised
    target: Mapping[str, Tensor]
    source: Mapping[str, Tensor]
    terms: tuple[Latents, Latents]


def residual_gradient(target: Latents, source: Latents, weights: Tensor) -> Latents:
    """g = w(t)·(ε_target - ε_source), weights of shape [b 1 1 1]."""
    return weights * (target - source)


class AbstractResidual(AbstractGuidance):
    """g = w(t)·(target - source), both noise predictions at one noised sample.

    Three parts, each with state of its own: `noised`, `target` (learns in `learn_target`) and
    `source` (learns in `learn_source`). The method `mix` recombines them across methods, and has a
    weight of its own.
    """

    # True where target and source make sense only at what this method's own `noised` gives.
    needs_own_noising: bool = False

    def __init__(self, weighting: Weighting, context: GuidanceContext) -> None:
        super().__init__()
        self.weighting = weighting
        self.prior = context.prior
        self.prompt = context.prompt

    @abstractmethod
    def noised(
        self, latents: Latents, cameras: CameraBatch, *, step: Step, generator: Generator
    ) -> Noised:
        """The sample that both sides judge."""

    @abstractmethod
    def target(
        self, noised: Noised, cameras: CameraBatch, *, step: Step, generator: Generator
    ) -> Prediction:
        """Where the sample should go."""

    @abstractmethod
    def source(
        self, noised: Noised, cameras: CameraBatch, *, step: Step, generator: Generator
    ) -> Prediction:
        """Where the sample is now."""

    def give_up_source(self) -> None:
        """Told by a mix whose source is another method: what `source` alone needs may go."""

    def sides(
        self, noised: Noised, cameras: CameraBatch, *, step: Step, generator: Generator
    ) -> tuple[Prediction, Prediction]:
        """(target, source). Where both ask the prior, a method may ask it once for both."""
        return (
            self.target(noised, cameras, step=step, generator=generator),
            self.source(noised, cameras, step=step, generator=generator),
        )

    def weights(self, noised: Noised, *, step: Step) -> Float[Tensor, "batch 1 1 1"]:
        """w(t) of each sample."""
        return weight(self.weighting, self.prior.schedule, noised.t, noised.noisy)

    @torch.no_grad()
    def gradient(
        self, latents: Latents, cameras: CameraBatch, *, step: Step, generator: Generator
    ) -> Guided:
        noised = self.noised(latents, cameras, step=step, generator=generator)
        target, source = self.sides(noised, cameras, step=step, generator=generator)
        wanted, now = target.noise.detach(), source.noise.detach()
        logs = {**target.logs, **source.logs}
        if target.correction is not None:
            length = relative_length(target.correction, wanted - now)
            logs |= {} if length is None else {"correction": length}
            wanted = wanted + limited(target.correction, wanted - now)
        return Guided(
            gradient=residual_gradient(wanted, now, self.weights(noised, step=step)),
            t=noised.t,
            logs=logs,
            observed=ObservedResidual(noised, target.observed, source.observed, (wanted, now)),
        )

    def learn_target(
        self,
        seen: ObservedResidual,
        cameras: CameraBatch,
        *,
        step: Step,
        generator: Generator,
    ) -> Mapping[str, float]:
        """Update what `target` keeps; `seen.target` is what it observed."""
        return {}

    def learn_source(
        self,
        seen: ObservedResidual,
        cameras: CameraBatch,
        *,
        step: Step,
        generator: Generator,
    ) -> Mapping[str, float]:
        """Update what `source` keeps; `seen.source` is what it observed."""
        return {}

    def update_estimator(
        self,
        latents: Latents,
        cameras: CameraBatch,
        guided: Guided,
        *,
        step: Step,
        generator: Generator,
    ) -> Mapping[str, float]:
        assert isinstance(guided.observed, ObservedResidual)
        return {
            **self.learn_target(guided.observed, cameras, step=step, generator=generator),
            **self.learn_source(guided.observed, cameras, step=step, generator=generator),
        }


class ResidualOptions(Options):
    """What all residual methods can be told."""

    scale: float = option(
        7.5, "Classifier-free guidance of the prior: uncond + s·(text - uncond).", symbol="s", ge=0
    )
    weight: Weighting = option("sigma-squared", "Weight of the residual over time.", symbol="w(t)")
    timesteps: TimestepOptions = option(TimestepOptions(), "Which t at which step.", symbol="t")

    def backward_through(self) -> frozenset[PriorPart]:
        """What of the prior the method differentiates, for the plan of memory."""
        return frozenset()


class ResidualGuidance(AbstractResidual):
    """A residual whose target is the guided prior at an ordinarily noised sample.

    A method of one's own overrides `source`, or whichever part differs:

        class MyMethod(ResidualGuidance):
            def source(self, noised, cameras, *, step, generator):
                return Prediction(...)
    """

    def __init__(self, config: ResidualOptions, context: GuidanceContext) -> None:
        super().__init__(config.weight, context)
        self.config = config

    def noised(
        self, latents: Latents, cameras: CameraBatch, *, step: Step, generator: Generator
    ) -> Noised:
        """x_t = α·x0 + σ·ε at a t of the schedule and a fresh ε."""
        t = self.times(latents, step=step, generator=generator)
        return draw(self.prior.schedule, latents, t, generator)

    def times(self, latents: Latents, *, step: Step, generator: Generator) -> Timesteps:
        """A t of the schedule for each sample."""
        return sample_timesteps(
            self.config.timesteps,
            len(latents),
            step=step,
            schedule=self.prior.schedule,
            generator=generator,
        ).to(latents.device)

    def target(
        self, noised: Noised, cameras: CameraBatch, *, step: Step, generator: Generator
    ) -> Prediction:
        """The prior's ε under classifier-free guidance, for the prompt as seen from each camera."""
        texts, scale = view_conditions(self.prior, self.prompt, cameras), self.config.scale
        return Prediction(self.prior.predict_guided(noised.noisy, noised.t, texts, scale=scale))
