"""A Gaussian mixture over tensors of any shape: exact noise, samples and log-density."""

from collections.abc import Sequence
from math import log, pi, prod

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Generator, Tensor

from sd_core.condition import Condition
from sd_core.config import Options, option
from sd_core.errors import ConfigError
from sd_core.noising import NoiseSchedule
from sd_core.prior import PriorContext
from sd_core.priors.exact import ExactPrior
from sd_core.shapes import Latents, PerSample, Timesteps
from sd_core.stage_defaults import SceneDefaults, StageDefaults

STAGES = StageDefaults(scenes={"affine": SceneDefaults()})  # a scene of points, not of pictures


class ComponentOptions(Options):
    """One Gaussian of the mixture."""

    mean: tuple[float, ...] = option(..., "Mean, flattened.", symbol="μ")
    covariance: tuple[tuple[float, ...], ...] = option(..., "Covariance matrix.", symbol="Σ")
    weight: float = option(1.0, "Weight, relative to the other components'.", gt=0)
    prompts: tuple[str, ...] = option((), "Prompts that select this component.")


class GaussianMixtureOptions(Options):
    """The components; by default the slanted Gaussian of the two-Gaussians example."""

    shape: tuple[int, int, int] = option((2, 1, 1), "Channels, height and width of a sample.")
    components: tuple[ComponentOptions, ...] = Field(
        default=(ComponentOptions(mean=(2.0, 1.0), covariance=((1.0, 0.8), (0.8, 1.0))),),
        description="The Gaussians.",
        min_length=1,
    )
    memory: int = option(
        256, "Renders that the estimator of the rendered distribution keeps.", ge=0
    )

    @model_validator(mode="after")
    def _sizes_fit(self) -> "GaussianMixtureOptions":
        size = prod(self.shape)
        for index, component in enumerate(self.components):
            rows = [len(component.mean), len(component.covariance)]
            if any(n != size for n in [*rows, *map(len, component.covariance)]):
                raise ValueError(
                    f"component {index} does not fit the shape {self.shape}: it needs a mean of "
                    f"{size} numbers and a covariance of {size} rows of {size}."
                )
        return self


def build(config: GaussianMixtureOptions, context: PriorContext) -> "GaussianMixturePrior":
    """The entry's `build`."""
    components = config.components
    return GaussianMixturePrior(
        means=torch.tensor([c.mean for c in components], device=context.device).view(
            -1, *config.shape
        ),
        covariances=torch.tensor([c.covariance for c in components], device=context.device),
        weights=torch.tensor([c.weight for c in components], device=context.device),
        prompts=[c.prompts for c in components],
        memory=config.memory,
    )


class GaussianMixturePrior(ExactPrior):
    """p(x0) = Σₖ wₖ·N(μₖ, Σₖ). Noised to level t it stays one: Σₖ wₖ·N(α·μₖ, α²·Σₖ + σ²·I).

    Σₖ = Uₖ·diag(λₖ)·Uₖᵀ is taken apart once; then every t costs a product with Uₖ.
    """

    def __init__(
        self,
        means: Float[Tensor, "members channels height width"],
        covariances: Float[Tensor, "members size size"],
        *,
        weights: Float[Tensor, " members"] | None = None,
        prompts: Sequence[Sequence[str]] = (),
        schedule: NoiseSchedule | None = None,
        memory: int = 256,
    ) -> None:
        channels, height, width = means.shape[1:]
        super().__init__(
            weights=means.new_ones(len(means)) if weights is None else weights,
            prompts=prompts,
            latent_shape=(channels, height, width),
            schedule=schedule or NoiseSchedule.scaled_linear(),
            memory=memory,
        )
        self.means = means.flatten(1)
        # In float64: a nearly singular covariance loses its small eigenvalues in float32.
        eigenvalues, self._axes = torch.linalg.eigh(covariances.double())
        smallest = float(eigenvalues.min())
        if smallest < -1e-9 * float(eigenvalues.max()) or not _symmetric(covariances):
            raise ConfigError(
                f"a covariance of the mixture has the eigenvalue {smallest:.3g} or is not "
                "symmetric. Give symmetric matrices without negative eigenvalues."
            )
        self._eigenvalues = eigenvalues.clamp_min(0)

    def log_density(self, noisy: Latents, t: Timesteps, condition: Condition) -> PerSample:
        """log p_t(x_t | y), in float64."""
        return self.log_joint(noisy, t, condition).logsumexp(dim=1)

    def log_joint(
        self, noisy: Latents, t: Timesteps, condition: Condition
    ) -> Float[Tensor, "batch members"]:
        return self._joint(noisy, t, condition)[0]

    def predict_noise(self, noisy: Latents, t: Timesteps, condition: Condition) -> Latents:
        """ε = -σ·∇log p_t = σ·Σₖ rₖ·(α²·Σₖ + σ²·I)⁻¹·(x_t - α·μₖ), rₖ = p(k | x_t)."""
        joint, whitened = self._joint(noisy, t, condition)
        pulls = torch.einsum("kij,bkj->bki", self._axes, whitened)
        score = -(joint.softmax(dim=1).unsqueeze(-1) * pulls).sum(dim=1)
        noise = -self.schedule.sigma(t, score).flatten(1) * score
        return noise.view_as(noisy).to(noisy.dtype)

    def sample(self, count: int, prompt: str = "", *, generator: Generator) -> Latents:
        members = self._draw_members(count, prompt, generator)
        normal = torch.randn(
            count, self.means.shape[1], generator=generator, dtype=torch.float64, device=self.device
        )
        spread = normal * self._eigenvalues[members].sqrt()
        points = self.means[members] + torch.einsum("bij,bj->bi", self._axes[members], spread)
        return points.to(self.means.dtype).view(count, *self.latent_shape)

    def _joint(
        self, noisy: Latents, t: Timesteps, condition: Condition
    ) -> tuple[Float[Tensor, "batch members"], Float[Tensor, "batch members size"]]:
        """log wₖ + log N(x_t; α·μₖ, α²·Σₖ + σ²·I), and Uₖᵀ·(x_t - α·μₖ) over its variances."""
        x = noisy.flatten(1).double()
        alpha = self.schedule.alpha(t, x).view(-1, 1, 1)
        sigma = self.schedule.sigma(t, x).view(-1, 1, 1)
        offsets = x.unsqueeze(1) - alpha * self.means.double()
        rotated = torch.einsum("kij,bki->bkj", self._axes, offsets)
        variances = alpha.square() * self._eigenvalues + sigma.square()
        log_normal = -0.5 * (
            (rotated.square() / variances).sum(-1)
            + variances.log().sum(-1)
            + x.shape[1] * log(2 * pi)
        )
        return condition.tensors["log_weights"].double() + log_normal, rotated / variances


def _symmetric(matrices: Tensor) -> bool:
    return torch.allclose(matrices, matrices.mT)
