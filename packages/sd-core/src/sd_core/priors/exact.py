"""What the exact priors share: a finite set of members, and prompts that select among them."""

import re
from abc import abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from sd_core.cameras import CameraBatch
from sd_core.condition import Condition
from sd_core.errors import ConfigError, nearest
from sd_core.estimator import AbstractNoiseEstimator, EstimatorOptions
from sd_core.noising import NoiseSchedule
from sd_core.prior import AbstractPrior
from sd_core.priors.empirical_estimator import EmpiricalEstimator
from sd_core.shapes import Images, Latents, PerSample, Timesteps

_VIEW_WORDS = re.compile(
    r", (front|side|back|overhead) view$|^(front|side|back|overhead) view of ", re.IGNORECASE
)


class ExactPrior(AbstractPrior):
    """A weighted set of members (components, pictures), each with the prompts it answers to.

    A prompt selects the members that list it; the empty prompt selects all. The usual view words
    are dropped where no member lists them: "a red bear, side view" is then "a red bear". Where no
    member lists any prompt at all, every prompt selects everything.
    """

    def __init__(
        self,
        *,
        weights: Float[Tensor, " members"],
        prompts: Sequence[Sequence[str]],
        latent_shape: tuple[int, int, int],
        schedule: NoiseSchedule,
        memory: int,
    ) -> None:
        self.schedule = schedule
        self.latent_shape = latent_shape
        self.device = weights.device
        self.log_weights = (weights / weights.sum()).log()
        self._memory = memory
        self._members: dict[str, list[int]] = {}
        for member, texts in enumerate(prompts):
            for text in texts:
                self._members.setdefault(text, []).append(member)

    def encode_text(self, prompts: Sequence[str], cameras: CameraBatch | None = None) -> Condition:
        rows = torch.stack([self._log_weights_of(prompt) for prompt in prompts])
        return Condition(tuple(prompts), {"log_weights": rows})

    def between(self, near: Condition, far: Condition, share: PerSample) -> Condition:
        """The mixture share·p + (1 - share)·q of what both select."""
        part = share.to(self.device)[:, None]
        one, other = (each.tensors["log_weights"] for each in (near, far))
        mixed = torch.logaddexp(one + part.log(), other + (1 - part).log())
        return Condition(near.prompts, {"log_weights": mixed})

    def encode(self, images: Images, *, generator: Generator | None = None) -> Latents:
        return images

    def decode(self, latents: Latents) -> Images:
        return latents

    def new_estimator(
        self, *, view_conditioned: bool, options: EstimatorOptions
    ) -> AbstractNoiseEstimator:
        return EmpiricalEstimator(
            schedule=self.schedule,
            latent_shape=self.latent_shape,
            memory=self._memory,
            view_conditioned=view_conditioned,
        ).to(self.device)

    @abstractmethod
    def log_joint(
        self, noisy: Latents, t: Timesteps, condition: Condition
    ) -> Float[Tensor, "batch members"]:
        """log wₖ + log p_t(x_t | k), up to a constant of the sample; -inf where y leaves k out."""

    @abstractmethod
    def sample(self, count: int, prompt: str = "", *, generator: Generator) -> Latents:
        """Exact samples x0 of the distribution that `prompt` selects."""

    def _draw_members(self, count: int, prompt: str, generator: Generator) -> Tensor:
        probabilities = self._log_weights_of(prompt).exp()
        return torch.multinomial(probabilities, count, replacement=True, generator=generator)

    def _log_weights_of(self, prompt: str) -> Tensor:
        """log of the members' weights, -inf where the prompt leaves a member out; sums to one."""
        if not prompt or not self._members:
            return self.log_weights
        members = self._members.get(prompt) or self._members.get(_VIEW_WORDS.sub("", prompt))
        if members is None:
            known = sorted(self._members)
            shown = ", ".join(f"'{text}'" for text in known[:8]) + (", ..." * (len(known) > 8))
            raise ConfigError(
                f"this prior knows no prompt '{prompt}'. It knows: {shown}, and the empty "
                f"prompt.{nearest(prompt, known)}"
            )
        selected = torch.full_like(self.log_weights, -torch.inf)
        selected[members] = self.log_weights[members]
        return selected.log_softmax(0)
