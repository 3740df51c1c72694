"""The bridge: SDS first, then the difference of two predictions under two texts."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from sd_core.cameras import CameraBatch
from sd_core.condition import Condition
from sd_core.config import parse_options
from sd_core.errors import ConfigError
from sd_core.guidance import GuidanceContext
from sd_core.inversion import ddim_invert
from sd_core.noising import Noised
from sd_core.parameterisation import noise_from_clean
from sd_core.prompts import PromptOptions, View, view_text, view_texts
from sd_core.residual import ObservedResidual, Prediction, ResidualGuidance
from sd_core.shapes import Latents, Timesteps
from sd_core.step import Step
from sd_core.text_guidance import classifier_free_guidance
from sd_core.timesteps import index_at
from sd_core.weighting import weight
from sd_guidance_bridge.full_path import first_step, noisy_end, walk_down_twice
from sd_guidance_bridge.options import BridgeOptions
from sd_guidance_bridge.texts import with_words, without_words

Phase = Literal["sds", "bridge", "full-path"]


def phase_at(config: BridgeOptions, step: Step) -> Phase:
    """What this step is part of. It follows from the step alone, so a resumed run switches too."""
    full_path, switch = first_step(config.full_path, step), config.switch_at_step
    if switch is None:
        switch = round(config.switch_at * step.total)
    elif switch > full_path or switch >= step.total:
        ends = "full path begins at" if full_path < step.total else "stage ends at"
        raise ConfigError(
            f"switch_at_step is {switch}, but the {ends} step {min(full_path, step.total)}: the "
            "bridge would never begin. Give a smaller one, or a fraction as switch_at."
        )
    if step.index >= full_path:
        return "full-path"
    return "bridge" if step.index >= switch else "sds"


class Bridge(ResidualGuidance):
    """g = w·(ε(x_t, y_tgt) - ε(x_t, y_src)), eq. 6; SDS's gradient before the switch.

    y_src is the prompt without praise and with the artifacts of SDS, so that the difference points
    from such pictures to good ones. It is 0 where both texts are equal. With the estimator as its
    source and its target guided, this is VSD.

    The full path inverts the latents to x_T' under the source, and walks down from there under
    both: g = -w·(ψ_tgt - ψ_src), a displacement of clean latents where eq. 6 is one of noise, hence
    the sign. It is the same residual, of ε = (x_T' - α·ψ)/σ with the weight w·σ/α.
    """

    config: BridgeOptions

    def __init__(self, config: BridgeOptions, context: GuidanceContext) -> None:
        given, texts = context.prompt, texts_for(config, context.prompt.text)
        if given.perp_neg:
            raise ConfigError(
                "prompt.perp_neg is true, but guidance 'bridge' has texts of its own at both ends, "
                "and blends none. Set prompt.perp_neg=false."
            )
        super().__init__(config, replace(context, prompt=_saying(given, texts["sds"])))
        self.source_prompt = _saying(given, texts["source"])
        self.target_prompt = _saying(given, texts["target"])
        self.plain_text = given.text
        self.needs_own_noising = config.full_path.start < 1
        self._refuse_late_mistakes()
        self.estimator = (
            context.prior.new_estimator(view_conditioned=True, options=config.estimator)
            if config.source == "estimator"
            else None
        )

    def noised(
        self, latents: Latents, cameras: CameraBatch, *, step: Step, generator: Generator
    ) -> Noised:
        """Drawn as ever; on the full path, what the latents become under the source."""
        if phase_at(self.config, step) != "full-path":
            return super().noised(latents, cameras, step=step, generator=generator)
        schedule, options = self.prior.schedule, self.config.full_path
        end = index_at(noisy_end(options, step), len(schedule))
        ends = torch.full((len(latents),), end, device=latents.device)
        return ddim_invert(
            latents,
            t=ends,
            steps=options.steps,
            schedule=schedule,
            predict_noise=lambda noisy, t: self._source(self._at(latents, noisy, t), cameras),
        )

    def target(
        self, noised: Noised, cameras: CameraBatch, *, step: Step, generator: Generator
    ) -> Prediction:
        phase = phase_at(self.config, step)
        if phase == "sds":
            return super().target(noised, cameras, step=step, generator=generator)
        if phase == "bridge":
            return Prediction(self._target(noised, cameras))
        return self._full_path(noised, cameras)[0]

    def source(
        self, noised: Noised, cameras: CameraBatch, *, step: Step, generator: Generator
    ) -> Prediction:
        phase = phase_at(self.config, step)
        if phase == "sds":
            return Prediction(noised.noise)
        if phase == "bridge":
            return Prediction(self._source(noised, cameras))
        return self._full_path(noised, cameras)[1]

    def sides(
        self, noised: Noised, cameras: CameraBatch, *, step: Step, generator: Generator
    ) -> tuple[Prediction, Prediction]:
        """Both in one call of the prior, where it is asked for both."""
        phase = phase_at(self.config, step)
        if phase == "sds":
            return super().sides(noised, cameras, step=step, generator=generator)
        if phase == "full-path":
            return self._full_path(noised, cameras)
        target, source = self._both(noised, noised, cameras)
        return Prediction(target), Prediction(source)

    def weights(self, noised: Noised, *, step: Step) -> Float[Tensor, "batch 1 1 1"]:
        config, schedule = self.config, self.prior.schedule
        phase = phase_at(config, step)
        if phase == "sds":
            return super().weights(noised, step=step)
        if phase == "bridge":
            weights = weight(config.bridge_weighting, schedule, noised.t, noised.noisy)
            return config.bridge_weight * weights
        return config.full_path.weight * weight(
            "sigma-over-alpha", schedule, noised.t, noised.noisy
        )

    def learn_source(
        self, seen: ObservedResidual, cameras: CameraBatch, *, step: Step, generator: Generator
    ) -> Mapping[str, float]:
        if self.estimator is None:
            return {}
        return self.estimator.fit(
            seen.noised,
            self._plain(cameras),
            cameras,
            predicted=None,
            step=step,
            generator=generator,
        )

    def _full_path(self, noised: Noised, cameras: CameraBatch) -> tuple[Prediction, Prediction]:
        def predict(target: Latents, source: Latents, t: Timesteps) -> tuple[Latents, Latents]:
            clean = noised.clean
            return self._both(self._at(clean, target, t), self._at(clean, source, t), cameras)

        schedule = self.prior.schedule
        ends = walk_down_twice(
            noised.noisy,
            t=noised.t,
            steps=self.config.full_path.steps,
            schedule=schedule,
            predict=predict,
        )
        alpha = schedule.alpha(noised.t, noised.noisy)
        sigma = schedule.sigma(noised.t, noised.noisy)
        target, source = (
            Prediction(noise_from_clean(noised.noisy, end, alpha=alpha, sigma=sigma))
            for end in ends
        )
        return target, source

    def _both(
        self, at_target: Noised, at_source: Noised, cameras: CameraBatch
    ) -> tuple[Latents, Latents]:
        """ε at the target's and at the source's sample."""
        if self.estimator is not None:
            return self._target(at_target, cameras), self._source(at_source, cameras)
        texts = [*self._target_texts(cameras), self._source_text(cameras)]
        noisy = [at_target.noisy] * (len(texts) - 1) + [at_source.noisy]
        found = self.prior.predict_noises(noisy, at_target.t, texts)
        return self._guided(found[:-1]), found[-1]

    def _target(self, noised: Noised, cameras: CameraBatch) -> Latents:
        texts = self._target_texts(cameras)
        return self._guided(self.prior.predict_noises(noised.noisy, noised.t, texts))

    def _source(self, noised: Noised, cameras: CameraBatch) -> Latents:
        if self.estimator is not None:
            return self.estimator.predict_noise(noised, self._plain(cameras), cameras)
        text = self._source_text(cameras)
        return self.prior.predict_noise(noised.noisy, noised.t, text)

    def _target_texts(self, cameras: CameraBatch) -> list[Condition]:
        """The target's text; under guidance the negative one before it."""
        text = self.prior.encode_text(view_texts(self.target_prompt, cameras), cameras)
        if self.config.bridge_scale == 1:
            return [text]
        negative = [self.prompt.negative] * len(cameras)
        return [self.prior.encode_text(negative, cameras), text]

    def _source_text(self, cameras: CameraBatch) -> Condition:
        if self.config.source == "null":
            return self.prior.encode_text([""] * len(cameras), cameras)
        return self.prior.encode_text(view_texts(self.source_prompt, cameras), cameras)

    def _guided(self, found: tuple[Latents, ...]) -> Latents:
        if len(found) == 1:
            return found[0]
        negative, text = found
        return classifier_free_guidance(negative, text, self.config.bridge_scale)

    def _at(self, clean: Latents, noisy: Latents, t: Timesteps) -> Noised:
        """A point of a path, with the noise that leads there from the clean latents."""
        schedule = self.prior.schedule
        alpha, sigma = schedule.alpha(t, noisy), schedule.sigma(t, noisy)
        return Noised(clean, noise_from_clean(noisy, clean, alpha=alpha, sigma=sigma), t, noisy)

    def _refuse_late_mistakes(self) -> None:
        """What would only be noticed at a switch, hours later."""
        read = [self.source_prompt] if self.config.source == "text" else []
        for prompt in (self.prompt, self.target_prompt, *read):
            self.prior.encode_text([view_text(prompt, view) for view in get_args(View)])
        if (self.config.scale, self.config.bridge_scale) != (1, 1):
            self.prior.encode_text([self.prompt.negative])
        if self.config.source == "null":
            self.prior.encode_text([""])
        if self.config.source == "estimator":
            self.prior.encode_text([self.plain_text])
        options, schedule = self.config.full_path, self.prior.schedule
        end = index_at(max(options.first, options.last), len(schedule))
        if options.start < 1 and float(schedule.alphas[end]) == 0:
            raise ConfigError(
                f"the full path ends in pure noise (t = {end} of {len(schedule)}), from which no "
                "way leads back. Set full_path.first and full_path.last below 1."
            )

    def _plain(self, cameras: CameraBatch) -> Condition:
        return self.prior.encode_text([self.plain_text] * len(cameras))


def texts_for(config: BridgeOptions, prompt: str) -> dict[Literal["sds", "source", "target"], str]:
    """What each side is told, without view words."""
    target = with_words(prompt, config.target_words)
    target = target if config.target_text is None else config.target_text
    source = without_words(prompt, config.praise)
    if not source and config.source_text is None:
        raise ConfigError(
            f"the prompt '{prompt}' only praises, and names nothing that could look bad. Say what "
            "to make, or set guidance.source_text."
        )
    source = with_words(source, [*config.artifacts, *filter(None, [config.domain])])
    return {
        "sds": target if config.sds_words is None else with_words(prompt, config.sds_words),
        "source": source if config.source_text is None else config.source_text,
        "target": target,
    }


def _saying(prompt: PromptOptions, text: str) -> PromptOptions:
    """The same views and negative words around another text."""
    told = {**prompt.model_dump(), "text": text}
    return parse_options(PromptOptions, told, where="guidance, a text of the bridge")
