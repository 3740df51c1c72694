"""A low-rank adapter (LoRA) on the prior's own network: the estimator of what is rendered now."""

import weakref
from collections.abc import Mapping
from contextlib import nullcontext
from copy import deepcopy
from typing import Any, Literal

import torch
from jaxtyping import Bool
from torch import Generator, Tensor

from sd_core.cameras import CameraBatch
from sd_core.condition import Condition
from sd_core.config import Options, option
from sd_core.errors import ConfigError, EstimatorDiverged
from sd_core.estimator import AbstractNoiseEstimator, EstimatorOptions, NoisePair
from sd_core.noising import Noised, draw
from sd_core.priors.diffusion.camera_condition import CameraCondition, CameraStart
from sd_core.priors.diffusion.lora_adapter import LoraAdapter
from sd_core.priors.diffusion.network_prior import NetworkPrior
from sd_core.shapes import Latents
from sd_core.step import Step

# The loss is scaled up before the backward pass and the gradients are scaled down after it. In
# float32 a power of two changes no bit; in float16 it keeps the gradient of a mean over 16,384
# numbers (6e-5 each) away from the smallest normal number (6e-5), below which bits are lost.
_LOSS_SCALE = 2.0**10
BASE_MODEL = "prior.estimator.base_model"  # as users write it
# Below this α, ε says nothing about v or u any more, and its error is rounding.
_SMALLEST_ALPHA = 1e-3


class LoraOptions(Options):
    """Who estimates the score of the renders. How it learns is the method's `estimator` table."""

    kind: Literal["lora", "renders"] = option(
        "lora",
        "lora: an adapter on the network. renders: the renders of the last steps themselves, whose "
        "score is exact where a scene draws nothing at random; no network, nothing to learn. At a "
        "camera that is the drawn noise: VSD is then SDS at its scale.",
    )
    memory: int = option(48, "renders: so many are kept besides those of the step.", ge=0)
    rank: int = option(4, "Rank of each update W + (alpha/rank)·B·A.", symbol="r", ge=1)
    alpha: float | None = option(None, "Scale of the updates, by default the rank: scale 1.", gt=0)
    targets: tuple[str, ...] = option(
        ("to_q", "to_k", "to_v", "to_out.0"),  # every attention, self and cross, as published
        "Layers that get an update: the ends of their names.",
        min_length=1,
    )
    camera_start: CameraStart = option(
        "zero",
        "'zero': the estimator starts as the prior. 'random': ProlificDreamer's start, which "
        "differs from the prior from the first step on.",
    )
    base_model: str | None = option(
        None,
        "Another model (an id, a short name or a folder) to adapt instead of the prior's own "
        "network. It must have the prior's latents and noise schedule; costs its memory.",
        min_length=1,
    )


class LoraEstimator(AbstractNoiseEstimator):
    """ε_φ(x_t, c, y): the prior's network with a LoRA, told the camera, trained on the renders.

    Loss: mean ‖f_φ(x_t, t, c, y) - f‖², f being what the network predicts: ε, v or u. Each sample
    loses its camera with probability p_∅. Optimiser: AdamW.

    Its `state_dict()` is A, B, the camera's MLP and the optimiser; the frozen network is left out.
    The adapter and the camera's hook leave the network when the estimator is gone.
    """

    def __init__(
        self,
        prior: NetworkPrior,
        options: LoraOptions,
        learning: EstimatorOptions,
        *,
        view_conditioned: bool,
    ) -> None:
        super().__init__()
        self.learning = learning
        self.base = prior if options.base_model is None else _other_base(prior, options.base_model)
        self._shares_text = options.base_model is None
        self.adapter = LoraAdapter(
            self.base.network, rank=options.rank, alpha=options.alpha, targets=options.targets
        )
        self.camera_condition = (
            CameraCondition(self.base.network, start=options.camera_start)
            if view_conditioned
            else None
        )
        # Of a method that is built again and again, such as by `diagnose`, one is on the network.
        weakref.finalize(self, _leave, self.adapter, self.camera_condition).atexit = False
        self.optimizer = torch.optim.AdamW(
            self.parameters(), lr=learning.learning_rate, weight_decay=learning.weight_decay
        )

    def predict_noise(
        self, noised: Noised, condition: Condition, cameras: CameraBatch | None
    ) -> Latents:
        """ε_φ at `noised`. Without cameras nothing is added to the time embedding."""
        shown = torch.ones_like(noised.t, dtype=torch.bool)
        # Where some samples will learn without their camera, this pass cannot train: no graph.
        drops = self.camera_condition is not None and self.learning.camera_dropout > 0
        worth = self._worth_a_graph(noised) and (not drops or noised.noisy.requires_grad)
        with torch.set_grad_enabled(worth):
            return self._noise(noised, condition, cameras, shown)

    def predict_noise_pair(
        self,
        noised: Noised,
        condition: Condition,
        cameras: CameraBatch,
        *,
        generator: Generator,
    ) -> NoisePair:
        """Both scores in one batched call; or, where one half of it is to train, in two.

        The half that trains has p_∅ of its samples without their camera and a graph, the other
        half the remaining ones and none: what would train alone is one forward pass less.
        """
        worth_a_graph = self._worth_a_graph(noised)
        if worth_a_graph and not noised.noisy.requires_grad:
            return self._learning_pair(noised, condition, cameras, generator)
        hidden = torch.zeros_like(noised.t, dtype=torch.bool)
        with torch.set_grad_enabled(worth_a_graph):
            both = self._noise(
                noised.repeat(2),
                Condition.concatenate([condition, condition]),
                cameras.repeat(2),
                torch.cat([hidden, ~hidden]),
            )
        camera_free, at_camera = both.chunk(2)
        return NoisePair(camera_free, at_camera)

    def _learning_pair(
        self, noised: Noised, condition: Condition, cameras: CameraBatch, generator: Generator
    ) -> NoisePair:
        shown = self._draw_shown(noised, generator)
        predicted = self._noise(noised, condition, cameras, shown)
        with torch.no_grad():
            other = self._noise(noised, condition, cameras, ~shown)
        own, at_camera = predicted.detach(), shown.view(-1, 1, 1, 1)
        return NoisePair(
            camera_free=torch.where(at_camera, other, own),
            at_camera=torch.where(at_camera, own, other),
            observed={"predicted": predicted, "shown": shown},
        )

    def fit(
        self,
        noised: Noised,
        condition: Condition,
        cameras: CameraBatch,
        *,
        predicted: Latents | None,
        shown: Bool[Tensor, " batch"] | None = None,
        step: Step,
        generator: Generator,
    ) -> Mapping[str, float]:
        """K updates, each at fresh t ~ U{0 .. T-1} and ε, or at the scene's own (`shared_noise`).

        `predicted` is ε_φ at `noised`, at the cameras of those samples that are `shown`, or else
        of all. It saves the first update its forward pass where that would be the same.
        """
        losses = []
        for update in range(self.learning.updates_per_step):
            first = update == 0
            own = self._draw_shown(noised, generator) if shown is None or not first else shown
            seen = noised if self.learning.shared_noise else self._redraw(noised, generator)
            noise = predicted if first and self._fits(predicted, own, shown) else None
            with torch.enable_grad():
                if noise is None:
                    noise = self._noise(seen, condition, cameras, own)
                losses.append(self._update(self._loss(noise, seen), step))
        return {"estimator_loss": sum(losses) / len(losses)}

    def get_extra_state(self) -> dict[str, Any]:
        """The optimiser's moments, in the checkpoint beside the parameters."""
        return {"optimizer": self.optimizer.state_dict()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        # A copy: torch's optimisers go on to write into the very moments that they are given.
        self.optimizer.load_state_dict(deepcopy(state["optimizer"]))

    def _noise(
        self,
        noised: Noised,
        condition: Condition,
        cameras: CameraBatch | None,
        shown: Bool[Tensor, " batch"],
    ) -> Latents:
        """ε_φ, each sample with its camera where `shown` is true."""
        base = self.base
        if not self._shares_text:  # another model reads the prompt with a text encoder of its own
            condition = base.encode_text(condition.prompts, condition.cameras)
        told = (
            nullcontext()
            if cameras is None or self.camera_condition is None
            else self.camera_condition.shown_to(cameras, shown)
        )
        with self.adapter.on(), told:
            output = base.predict_output(noised.noisy, noised.t, condition)
        return base.noise_from_output(output, noised.noisy, noised.t)

    def _loss(self, noise: Latents, seen: Noised) -> Tensor:
        """mean (k(t)·(ε_φ - ε))²: the squared error in what the network itself predicts."""
        scale = self._error_scale(seen)
        return (scale * (noise - seen.noise)).square().mean()

    def _error_scale(self, seen: Noised) -> Tensor:
        """k = |df/dε| at fixed x_t: 1 for ε, (α² + σ²)/α for v, (α + σ)/α for the flow u."""
        schedule = self.base.schedule
        alpha = schedule.alpha(seen.t, seen.noise).clamp_min(_SMALLEST_ALPHA)
        sigma = schedule.sigma(seen.t, seen.noise)
        if self.base.prediction_type == "v_prediction":
            return (alpha**2 + sigma**2) / alpha
        if self.base.prediction_type == "flow":
            return (alpha + sigma) / alpha
        return torch.ones_like(alpha)

    def _update(self, loss: Tensor, step: Step) -> float:
        """One step of AdamW; the step size grows linearly over the first `warm_up_steps`."""
        learned = list(self.parameters())
        with self.adapter.on():  # `grad`, not `backward`: it writes to nobody else's leaves
            gradients = torch.autograd.grad(_LOSS_SCALE * loss, learned, allow_unused=True)
        norm = torch.nn.utils.get_total_norm([g for g in gradients if g is not None])
        if not bool(norm.isfinite()):
            raise EstimatorDiverged(
                f"the estimator's gradient is not finite at step {step.index} (loss "
                f"{float(loss.detach()):.3g}). Try the prior in bfloat16 or float32, or a smaller "
                "learning_rate of the estimator."
            )
        for parameter, gradient in zip(learned, gradients, strict=True):
            parameter.grad = None if gradient is None else gradient / _LOSS_SCALE
        warm_up = min(1.0, (step.index + 1) / max(1, self.learning.warm_up_steps))
        for group in self.optimizer.param_groups:
            group["lr"] = warm_up * self.learning.learning_rate
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(loss.detach())

    def _draw_shown(self, noised: Noised, generator: Generator) -> Bool[Tensor, " batch"]:
        """True where a sample keeps its camera: with probability 1 - p_∅."""
        drawn = torch.rand(len(noised), generator=generator, device=noised.clean.device)
        return drawn >= self.learning.camera_dropout

    def _redraw(self, noised: Noised, generator: Generator) -> Noised:
        """The same renders at t ~ U{0 .. T-1} and ε of their own."""
        schedule, device = self.base.schedule, noised.clean.device
        t = torch.randint(len(schedule), (len(noised),), generator=generator, device=device)
        return draw(schedule, noised.clean, t, generator)

    def _fits(
        self,
        predicted: Latents | None,
        own: Bool[Tensor, " batch"],
        shown: Bool[Tensor, " batch"] | None,
    ) -> bool:
        """Whether `predicted` is the pass of an update that shows `own` their cameras."""
        has_graph = predicted is not None and predicted.requires_grad
        same = shown is not None or self.camera_condition is None or bool(own.all())
        return has_graph and self.learning.shared_noise and same

    def _worth_a_graph(self, noised: Noised) -> bool:
        """Whether anyone will go back through a prediction; its graph holds all activations."""
        return torch.is_grad_enabled() and (
            self.learning.shared_noise or noised.noisy.requires_grad
        )


def _leave(adapter: LoraAdapter, camera_condition: CameraCondition | None) -> None:
    adapter.leave()
    if camera_condition is not None:
        camera_condition.leave()


def _other_base(prior: NetworkPrior, model: str) -> NetworkPrior:
    """The second model, or what keeps it from judging the prior's noised latents."""
    base = prior.other_model(model)
    mine, other = prior.schedule, base.schedule
    if base.latent_shape[0] != prior.latent_shape[0]:
        raise ConfigError(
            f"{BASE_MODEL} '{model}' has latents of {base.latent_shape[0]} channels, the "
            f"prior of {prior.latent_shape[0]}. Choose a model with the prior's latents."
        )
    if len(mine) != len(other) or not torch.allclose(mine.alphas, other.alphas, atol=1e-4):
        raise ConfigError(
            f"{BASE_MODEL} '{model}' has another noise schedule than the prior, so that t means "
            "another noise level. Choose a model with the prior's schedule."
        )
    return base
