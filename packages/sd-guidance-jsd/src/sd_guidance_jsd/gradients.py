"""The two gradients that go by the name of JSD, at the latents z of one view.

| letter     | meaning                                                                        |
|------------|--------------------------------------------------------------------------------|
| x̂_t        | z inverted to level t; the prior's guided prediction there is ε̂(x̂_t, y)        |
| x̂0_HD      | what that prediction takes for clean: (x̂_t − σ·ε̂(x̂_t, y))/α                     |
| x̄_t        | the minority sample: the clean latents of x̂_t with fresh noise                 |
| x̂0_LD      | what the prediction there takes for clean: (x̄_t − σ·ε̂(x̄_t, y))/α               |

HD and LD are the code's words, for a sample of high density and one of low density.
"""

from torch import Tensor

from sd_core.parameterisation import noise_from_clean
from sd_core.shapes import Latents


def jsd_gradient(
    inverted: Latents, minority: Latents, weights: Tensor, *, alpha: Tensor, sigma: Tensor
) -> Latents:
    """g = w(t)·(α/σ)·(ε̂(x̂_t, y) − ε̂(x̄_t, y)), eq. 12 and 23. It is unbounded at t → 0 for w = 1.

    It is 0 where the prior says the same at both samples.
    """
    return difference_weights(weights, alpha=alpha, sigma=sigma) * (inverted - minority)


def jsd_released_gradient(
    clean: Latents, high: Latents, low: Latents, *, low_density_weight: float
) -> Latents:
    """g = [(z − x̂0_HD) + k·(z − x̂0_LD)]/N, with N the number of elements of one sample.

    The code's loss at a batch of one, the batch it ships with, has this gradient:
    L = mean((z − x̂0_HD)²)/2 + k·mean((z − x̂0_LD)²)/2. For larger batches it divides by the batch
    twice, here the loop does so once: a sample's gradient does not depend on its neighbours.
    """
    pulls = (clean - high) + low_density_weight * (clean - low)
    return pulls / clean[0].numel()


def difference_weights(weights: Tensor, *, alpha: Tensor, sigma: Tensor) -> Tensor:
    """w(t)·α/σ: what the difference of two noises is multiplied by. α·σ for w = σ²."""
    return weights * alpha / sigma


def attraction_weights(
    weights: Tensor, *, low_density_weight: float, alpha: Tensor, sigma: Tensor
) -> Tensor:
    """w(t)·(1 + k)·σ/α: the same for the attraction written as a difference of two noises."""
    return weights * (1 + low_density_weight) * sigma / alpha


def attraction_target(
    noisy: Latents,
    high: Latents,
    low: Latents,
    *,
    low_density_weight: float,
    alpha: Tensor,
    sigma: Tensor,
) -> Latents:
    """ε* = (x̂_t − α·x*)/σ with x* = (x̂0_HD + k·x̂0_LD)/(1 + k): the noise if x* were clean.

    With κ = (x̂_t − α·z)/σ, the noise of the inversion, ε* − κ = (α/σ)·(z − x*), so that
    (1 + k)·(σ/α)·(ε* − κ) = (z − x̂0_HD) + k·(z − x̂0_LD): the sum of two attractions is a residual
    of two noises at the one sample x̂_t.
    """
    both = (high + low_density_weight * low) / (1 + low_density_weight)
    return noise_from_clean(noisy, both, alpha=alpha, sigma=sigma)
