"""A prior that is a network, as its estimators see it."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from sd_core.cameras import CameraBatch
from sd_core.condition import Condition
from sd_core.noising import NoiseSchedule
from sd_core.shapes import Latents, Timesteps


@runtime_checkable
class NetworkPrior(Protocol):
    """What an estimator asks of a prior that is a network."""

    schedule: NoiseSchedule
    latent_shape: tuple[int, int, int]
    prediction_type: str  # "epsilon", "v_prediction" or "flow"

    @property
    def network(self) -> nn.Module: ...

    def encode_text(
        self, prompts: Sequence[str], cameras: CameraBatch | None = None
    ) -> Condition: ...

    def predict_output(self, noisy: Latents, t: Timesteps, condition: Condition) -> Tensor:
        """What the network says, in its own terms."""
        ...

    def noise_from_output(self, output: Tensor, noisy: Latents, t: Timesteps) -> Latents:
        """ε from what the network said, in the dtype of `noisy`."""
        ...

    def other_model(self, model: str) -> "NetworkPrior":
        """Another model, loaded as this one was, for `base_model`."""
        ...
