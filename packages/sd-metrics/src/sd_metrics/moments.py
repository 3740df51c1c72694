"""The mean and the covariance of features that come in batches, in float64."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sd_core.errors import ConfigError

# What an encoder sees in pictures, one row for each.
PictureFeatures = Float[Tensor, "pictures features"]


@dataclass(frozen=True, eq=False)
class Moments:
    """m = Σ f_i/n and S = Σ (f_i - m)(f_i - m)ᵀ, of which the covariance is S/(n - 1).

    On the CPU, in float64: sums of squares around the mean keep their digits, whatever the order
    and the sizes of the batches.
    """

    count: int
    mean: Float[Tensor, " width"]
    scatter: Float[Tensor, "width width"]

    @classmethod
    def of(cls, features: PictureFeatures) -> "Moments":
        """Of one batch, which may not be empty."""
        exact = features.detach().to("cpu", torch.float64)
        mean = exact.mean(dim=0)
        around = exact - mean
        return cls(len(exact), mean, around.T @ around)

    @property
    def width(self) -> int:
        return len(self.mean)

    @property
    def covariance(self) -> Float[Tensor, "width width"]:
        """S/(n - 1), without bias, as FID has it (numpy's `cov`)."""
        if self.count < 2:
            raise ConfigError(
                f"{self.count} picture has no covariance, expected two or more. Judge more views, "
                "or let a reference have more pictures."
            )
        return self.scatter / (self.count - 1)

    def merged(self, other: "Moments") -> "Moments":
        """Of both together (Chan, Golub and LeVeque 1979):

        δ = m₂ - m₁, m = m₁ + δ·n₂/n, S = S₁ + S₂ + δδᵀ·n₁n₂/n.
        """
        count = self.count + other.count
        apart = other.mean - self.mean
        return Moments(
            count,
            self.mean + apart * (other.count / count),
            self.scatter
            + other.scatter
            + torch.outer(apart, apart) * (self.count * other.count / count),
        )
