"""A noise estimator: a learned ε of what the scene renders *now* (VSD's, ESD's, USD's)."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

from jaxtyping import Bool
from torch import Generator, Tensor, nn

from sd_core.cameras import CameraBatch
from sd_core.condition import Condition
from sd_core.config import Options, option
from sd_core.noising import Noised
from sd_core.shapes import Latents
from sd_core.step import Step


class EstimatorOptions(Options):
    """How an estimator learns. An estimator that has nothing to train ignores these."""

    learning_rate: float = option(1e-4, "Step size of the estimator's own optimiser.", gt=0)
    updates_per_step: int = option(
        1, "Updates of the estimator for each step of the scene.", symbol="K", ge=1
    )
    camera_dropout: float = option(
        0.1,
        "Probability that a training sample is shown without its camera, so that the camera-free "
        "score is learned too.",
        symbol="p_∅",
        ge=0,
        le=1,
    )
    shared_noise: bool = option(
        False, "Train at the scene step's own t and noise instead of fresh draws."
    )
    weight_decay: float = option(0.01, "Weight decay of the estimator's AdamW.", ge=0)
    warm_up_steps: int = option(
        0,
        "Steps of the scene over which the estimator's step size grows linearly to its value. "
        "ProlificDreamer's own code has 500, threestudio none.",
        ge=0,
    )


@dataclass(frozen=True, eq=False)
class NoisePair:
    """ε_φ(x_t, y) and ε_φ(x_t, c, y), and what `fit` may be handed of how they came about."""

    camera_free: Latents
    at_camera: Latents
    observed: Mapping[str, Tensor] = field(default_factory=dict)  # predicted and shown


class AbstractNoiseEstimator(nn.Module, ABC):
    """ε_φ(x_t, c, y): the score of the distribution of renders, as the scene is now.

    Its `state_dict()` is its checkpoint: whatever it learned, and its optimiser's state.
    """

    @abstractmethod
    def predict_noise(
        self, noised: Noised, condition: Condition, cameras: CameraBatch | None
    ) -> Latents:
        """ε_φ at `noised`; `cameras=None` is the camera-free score.

        A network reads `noised.noisy` and `noised.t` alone. The exact estimators of small worlds
        need `noised.clean` too: for them the distribution of renders *is* the renders.
        With gradients on, the result may carry the estimator's own graph, so that one forward
        pass serves both the score and the training.
        """

    def predict_noise_pair(
        self,
        noised: Noised,
        condition: Condition,
        cameras: CameraBatch,
        *,
        generator: Generator,
    ) -> NoisePair:
        """Both scores at once: camera-free and at the camera.

        As of `predict_noise`, with gradients on a part may carry the graph that trains; which
        samples of it lose their camera is then drawn here.
        """
        return NoisePair(
            camera_free=self.predict_noise(noised, condition, None),
            at_camera=self.predict_noise(noised, condition, cameras),
        )

    @abstractmethod
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
        """Learn from one batch of renders; gives what is worth logging, such as the loss.

        `predicted` is what was predicted for `noised` in this step, with its graph: by
        `predict_noise` at all cameras, or as a pair's `observed` has it, where only those samples
        that are `shown` saw their camera.
        """
