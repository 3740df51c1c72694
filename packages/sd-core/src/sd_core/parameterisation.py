"""What a network may predict, each turned into the others: ε ↔ x0 ↔ v ↔ score ↔ flow.

| letter | name     | definition                | who predicts it                            |
|--------|----------|---------------------------|--------------------------------------------|
| ε      | noise    | x_t = α·x0 + σ·ε          | Stable Diffusion 1, 2-base; sd_core's border |
| x0     | clean    |                           | consistency and one-step models            |
| v      | velocity | v = α·ε − σ·x0            | Stable Diffusion 2 (768)                   |
| s      | score    | s = ∇ log p_t(x_t) = −ε/σ | score models                               |
| u      | flow     | u = ε − x0                | rectified flow: Stable Diffusion 3, FLUX   |

`alpha` and `sigma` broadcast against the latents, [b 1 1 1] as `NoiseSchedule` gives them. Every
line holds for any α and σ, whether or not α² + σ² = 1 or α + σ = 1. A division by σ excludes σ = 0
(no noise), one by α excludes α = 0 (nothing left of x0).
"""

from torch import Tensor

from sd_core.shapes import Latents


def clean_from_noise(noisy: Latents, noise: Latents, *, alpha: Tensor, sigma: Tensor) -> Latents:
    """x0 = (x_t − σ·ε)/α. α > 0."""
    return (noisy - sigma * noise) / alpha


def noise_from_clean(noisy: Latents, clean: Latents, *, alpha: Tensor, sigma: Tensor) -> Latents:
    """ε = (x_t − α·x0)/σ. σ > 0."""
    return (noisy - alpha * clean) / sigma


def velocity_target(clean: Latents, noise: Latents, *, alpha: Tensor, sigma: Tensor) -> Latents:
    """v = α·ε − σ·x0, what a v-network is trained to predict (Salimans & Ho 2022)."""
    return alpha * noise - sigma * clean


def velocity_from_noise(noisy: Latents, noise: Latents, *, alpha: Tensor, sigma: Tensor) -> Latents:
    """v = ((α² + σ²)·ε − σ·x_t)/α. α > 0; `velocity_target` divides by nothing."""
    return ((alpha**2 + sigma**2) * noise - sigma * noisy) / alpha


def noise_from_velocity(
    noisy: Latents, velocity: Latents, *, alpha: Tensor, sigma: Tensor
) -> Latents:
    """ε = (α·v + σ·x_t)/(α² + σ²). Well-defined at every t; the divisor is 1 on VP schedules."""
    return (alpha * velocity + sigma * noisy) / (alpha**2 + sigma**2)


def clean_from_velocity(
    noisy: Latents, velocity: Latents, *, alpha: Tensor, sigma: Tensor
) -> Latents:
    """x0 = (α·x_t − σ·v)/(α² + σ²). Well-defined at every t; the divisor is 1 on VP schedules."""
    return (alpha * noisy - sigma * velocity) / (alpha**2 + sigma**2)


def score_from_noise(noise: Latents, *, sigma: Tensor) -> Latents:
    """s = −ε/σ: the score points to the data, against the noise. σ > 0."""
    return -noise / sigma


def noise_from_score(score: Latents, *, sigma: Tensor) -> Latents:
    """ε = −σ·s."""
    return -sigma * score


def flow_target(clean: Latents, noise: Latents) -> Latents:
    """u = ε − x0, what a rectified flow is trained to predict: from the data to the noise."""
    return noise - clean


def flow_from_noise(noisy: Latents, noise: Latents, *, alpha: Tensor, sigma: Tensor) -> Latents:
    """u = ((α + σ)·ε − x_t)/α. α > 0; `flow_target` divides by nothing."""
    return ((alpha + sigma) * noise - noisy) / alpha


def noise_from_flow(noisy: Latents, flow: Latents, *, alpha: Tensor, sigma: Tensor) -> Latents:
    """ε = (x_t + α·u)/(α + σ). Well-defined at every t; the divisor is 1 on rectified flows."""
    return (noisy + alpha * flow) / (alpha + sigma)


def clean_from_flow(noisy: Latents, flow: Latents, *, alpha: Tensor, sigma: Tensor) -> Latents:
    """x0 = (x_t − σ·u)/(α + σ). Well-defined at every t; the divisor is 1 on rectified flows."""
    return (noisy - sigma * flow) / (alpha + sigma)
