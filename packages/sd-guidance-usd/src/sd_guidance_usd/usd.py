"""Uniform Score Distillation: VSD towards a target in which every pose is as likely as wanted."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Generator, Tensor

from sd_core.baselines.vsd import VSD
from sd_core.cameras import CameraBatch
from sd_core.correction import Correction
from sd_core.errors import ConfigError
from sd_core.guidance import GuidanceContext
from sd_core.noising import Noised, draw
from sd_core.prompts import PromptOptions
from sd_core.residual import ObservedResidual, Prediction
from sd_core.shapes import Latents, PerSample, Timesteps
from sd_core.step import Step
from sd_core.view_conditions import view_conditions
from sd_guidance_usd.classifiers import build_judge
from sd_guidance_usd.marginal import Marginal, memory_rate
from sd_guidance_usd.options import USDOptions
from sd_guidance_usd.prior_marginal import sampled_marginal, sampled_shares
from sd_guidance_usd.prior_pictures import PriorPictures
from sd_guidance_usd.rectifier import (
    LogProbabilities,
    Probabilities,
    log_control,
    log_rectifier,
    wanted_shares,
    with_shares,
)

PAPERS_WORDS = "from side view, from back view."


class USD(VSD):
    """g = w(t)·(ε_p - σ·∇_{x_t} log r - ε_φ), r = Σ_c f(c)/p̄_t(c)·p(c|x_t).

    Eq. 13 has (σ/α)·∇_θ log r; of its ∇_θ = (∂x_0/∂θ)ᵀ·α·∇_{x_t}, α is in here.

    p_t·r is the density of pictures whose poses are distributed as f. p(c|x_t) is read off x̂0, the
    prior's own guess of the picture without noise, given the text; or a classifier knows it of x_t.
    """

    config: USDOptions
    wanted: Tensor

    def __init__(self, config: USDOptions, context: GuidanceContext) -> None:
        super().__init__(config, context)
        if context.prompt.perp_neg:
            raise ConfigError(
                "prompt.perp_neg is true, but guidance 'usd' says no view words, so that there are "
                "none to push away from. Set prompt.perp_neg=false."
            )
        self.classes, self.judge = build_judge(config, context)
        words = auxiliary_words(config.auxiliary, context)
        self.prompt = with_auxiliary(context.prompt, words)
        self.marginal = Marginal(
            bins=config.bins,
            classes=len(self.classes),
            times=len(self.prior.schedule),
            rate=memory_rate(config.memory),
        )
        wanted = wanted_shares(self.classes, config.wanted, config.only)
        self.register_buffer("wanted", wanted, persistent=False)  # told, not learned
        known = self.judge.known_shares() if config.marginal == "prior" else None
        if known is not None:
            self.marginal.put_all(known.expand_as(self.marginal.shares))

    def target(
        self, noised: Noised, cameras: CameraBatch, *, step: Step, generator: Generator
    ) -> Prediction:
        judged = noised
        if self.config.second_noise:
            judged = draw(self.prior.schedule, noised.clean, noised.t, generator)
        rectified = step.fraction >= self.config.starts_at
        with_graph = rectified and self.judge.needs_graph
        noise = of_clean = judged.noise
        with torch.set_grad_enabled(with_graph):  # one pass for the target and for the slope
            judged = replace(judged, noisy=judged.noisy.detach().requires_grad_(with_graph))
            if self.judge.needs_noise or not self.config.second_noise:
                noise, of_clean = self._ask(judged, cameras)
        probabilities, correction = self._judge(judged, of_clean, rectified=rectified)
        if self.config.second_noise:
            noise = super().target(noised, cameras, step=step, generator=generator).noise
        seen = zip(self.classes, probabilities.mean(dim=0).tolist(), strict=True)
        return Prediction(
            noise.detach(),
            observed={"probabilities": probabilities},
            logs={f"seen_{name}": share for name, share in seen},
            correction=correction,
        )

    def learn_target(
        self, seen: ObservedResidual, cameras: CameraBatch, *, step: Step, generator: Generator
    ) -> Mapping[str, float]:
        if self.config.marginal == "running":
            self.marginal.learn(seen.noised.t, seen.target["probabilities"])
        elif not (self.marginal.measured or self.config.only):
            self._measure_prior(generator)
        return {}

    def _ask(self, noised: Noised, cameras: CameraBatch) -> tuple[Latents, Latents]:
        """The guided ε, as VSD has it, and the ε whose x̂0 shows the pose."""
        texts, scale = view_conditions(self.prior, self.prompt, cameras), self.config.scale
        if scale == 1 or self.config.judged == "guided":
            noise = self.prior.predict_guided(noised.noisy, noised.t, texts, scale=scale)
            return noise, noise
        return self.prior.predict_guided_and_text(noised.noisy, noised.t, texts, scale=scale)

    def _judge(
        self, noised: Noised, noise: Latents, *, rectified: bool
    ) -> tuple[Probabilities, Correction | None]:
        slope = None
        if rectified:
            probabilities, slope = self.judge.slope(
                noised, noise, lambda seen: self._log_rectifier(seen, noised.t)
            )
        else:
            probabilities = self.judge.probabilities(noised, noise)
        if self._counts_shares:
            probabilities = self._counted(probabilities.log(), noised.t).exp()
        if slope is None:
            return probabilities, None
        sigma = self.prior.schedule.sigma(noised.t, slope)
        return probabilities, Correction(-sigma * slope, self.config.limit)

    @property
    def _counts_shares(self) -> bool:
        """Whether how frequent each class is, which the judge leaves to us, matters at all."""
        return self.judge.of_equal_shares and not self.config.only

    def _counted(self, seen: LogProbabilities, t: Timesteps) -> LogProbabilities:
        return with_shares(seen, self.marginal.at(t).to(seen))

    def _log_rectifier(self, log_probabilities: LogProbabilities, t: Timesteps) -> PerSample:
        wanted = self.wanted.to(log_probabilities)
        if self.config.only:
            return log_control(log_probabilities, wanted)
        if self._counts_shares:
            log_probabilities = self._counted(log_probabilities, t)
        return log_rectifier(log_probabilities, self.marginal.at(t).to(wanted), wanted)

    def _measure_prior(self, generator: Generator) -> None:
        pictures = PriorPictures(
            self.prior,
            self.prompt.text,
            self.prompt.negative,
            scale=self.config.scale,
            count=self.config.prior_samples,
            steps=self.config.prior_steps,
        )
        if self.judge.of_equal_shares:
            shares = sampled_shares(pictures, self.judge, generator=generator)
            self.marginal.put_all(shares.expand_as(self.marginal.shares))
            return
        scale = self.config.scale if self.config.judged == "guided" else 1.0
        shares = sampled_marginal(
            self.marginal, pictures, self.judge, generator=generator, judged_scale=scale
        )
        self.marginal.put_all(shares)


def auxiliary_words(told: str | None, context: GuidanceContext) -> str:
    """What was told, or else the paper's words, unless the prior refuses to read them."""
    if told is not None:
        return told
    try:
        context.prior.encode_text([with_auxiliary(context.prompt, PAPERS_WORDS).text])
    except ConfigError:
        return ""
    return PAPERS_WORDS


def with_auxiliary(prompt: PromptOptions, auxiliary: str) -> PromptOptions:
    """The prompt with words of several views at once, instead of those of each camera's own."""
    text = f"{prompt.text}, {auxiliary}" if auxiliary else prompt.text
    return prompt.model_copy(update={"text": text, "views": "none"})
