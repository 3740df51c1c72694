"""The exact score of a noised finite set."""

from jaxtyping import Float
from torch import Tensor


def bank_log_likelihood(
    noisy: Float[Tensor, "batch *shape"],
    bank: Float[Tensor, "members *shape"],
    alpha: Tensor,
    sigma: Tensor,
) -> Float[Tensor, "batch members"]:
    """log N(x_t; α·xᵢ, σ²I) up to a constant: -‖x_t - α·xᵢ‖² / (2σ²). α, σ: [b 1 1 1].

    Expanded as ‖x‖² - 2α⟨x, xᵢ⟩ + α²‖xᵢ‖², so that a large bank costs one matrix product; the
    first term is the same for all members and is left out.
    """
    x, members = noisy.flatten(1), bank.flatten(1)
    alpha, sigma = alpha.flatten(1), sigma.flatten(1)
    inner = x @ members.T
    squares = members.square().sum(dim=1)
    return (alpha * inner - 0.5 * alpha.square() * squares) / sigma.square()


def bank_noise(
    noisy: Float[Tensor, "batch *shape"],
    bank: Float[Tensor, "members *shape"],
    log_weights: Float[Tensor, "batch members"],
    alpha: Tensor,
    sigma: Tensor,
) -> Float[Tensor, "batch *shape"]:
    """ε(x_t) = (x_t - α·E[x0 | x_t]) / σ, with E over softmaxᵢ(log wᵢ + log N(x_t; α·xᵢ, σ²I))."""
    logits = log_weights + bank_log_likelihood(noisy, bank, alpha, sigma)
    clean = (logits.softmax(dim=1) @ bank.flatten(1)).view_as(noisy)
    return (noisy - alpha * clean) / sigma
