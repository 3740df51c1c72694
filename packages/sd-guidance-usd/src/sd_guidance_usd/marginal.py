"""p̄_t(c): how often each class is seen, as a running mean over intervals of t."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sd_core.shapes import Timesteps
from sd_guidance_usd.rectifier import Probabilities


def memory_rate(samples: int) -> float:
    """a with 1 - (1 - a)^n = 0.9: the last n samples have 90 % of the weight (App. B.2)."""
    return 1.0 - float(0.1 ** (1 / samples))


class Marginal(nn.Module):
    """p̄ ← a·p + (1 - a)·p̄ (eq. 19), one p̄ for each of `bins` equal intervals of t.

    It begins uniform. Its state is part of the method's checkpoint.
    """

    shares: Tensor  # [bins classes]
    measured: Tensor  # whether `shares` were put in as a whole

    def __init__(self, *, bins: int, classes: int, times: int, rate: float) -> None:
        super().__init__()
        self.times = times
        self.rate = rate
        self.register_buffer("shares", torch.full((bins, classes), 1 / classes))
        self.register_buffer("measured", torch.zeros((), dtype=torch.bool))

    def at(self, t: Timesteps) -> Probabilities:
        """p̄ at each sample's t."""
        return self.shares[self._bin(t)]

    def learn(self, t: Timesteps, probabilities: Probabilities) -> None:
        """Takes in the samples one after the other, each in its interval."""
        for place, seen in zip(self._bin(t), probabilities.detach().to(self.shares), strict=True):
            self.shares[place] += self.rate * (seen - self.shares[place])

    def put_all(self, shares: Float[Tensor, "bins classes"]) -> None:
        """Replaces p̄ by what was measured elsewhere."""
        self.shares.copy_(shares)
        self.measured.fill_(True)

    def middle(self, place: int) -> int:
        """The t in the middle of an interval."""
        return int((place + 0.5) * self.times / len(self.shares))

    def _bin(self, t: Timesteps) -> Tensor:
        return t * len(self.shares) // self.times
