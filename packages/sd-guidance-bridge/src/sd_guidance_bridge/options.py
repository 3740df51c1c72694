"""The bridge's options and presets."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from sd_core.config import Options, option
from sd_core.estimator import EstimatorOptions
from sd_core.presets import PresetOptions
from sd_core.residual import ResidualOptions
from sd_core.weighting import Weighting
from sd_guidance_bridge.texts import ARTIFACTS, PRAISE

Word = Annotated[str, Field(min_length=1)]

_RELEASED_WORDS_2D = ("detailed high resolution", "high quality", "sharp")


class FullPathOptions(Options):
    """The whole way there and back, instead of one step each (section 5)."""

    start: float = option(
        1.0, "When it takes over, as a fraction of the steps; 1 is never.", ge=0, le=1
    )
    steps: int = option(10, "Network calls of each way: up to the noisy end, and down again.", ge=1)
    first: float = option(
        0.8,
        "The noisy end where the full path starts, as a fraction of the noise schedule: how much "
        "of the picture may change.",
        symbol="T'",
        gt=0,
        le=1,
    )
    last: float = option(
        0.2, "The noisy end at the last step; it moves there in a straight line.", gt=0, le=1
    )
    weight: float = option(1.0, "w of w·(ψ_tgt - ψ_src).", symbol="w", gt=0)


class BridgeOptions(PresetOptions, ResidualOptions):
    """The paper's values for scenes; `scale`, `weight` and `negative` words are SDS's, before it.

    `paper-2d`: for pictures. `editing`: no SDS before it, for pictures that exist already.
    `released`, `released-2d`: what the two released codes compute.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper-2d": {"switch_at": 0.2, "scale": 40.0, "bridge_weight": 25.0},
        "editing": {"switch_at": 0.0, "bridge_weight": 25.0},
        "released": {
            "praise": (),
            "target_words": (".",),
            "timesteps": {"schedule": "hard-switch"},
        },
        "released-2d": {
            "switch_at": 0.5,
            "scale": 40.0,
            "bridge_weight": 40.0,
            "bridge_weighting": "sigma-squared",
            "praise": (),
            "sds_words": (),
            "target_words": _RELEASED_WORDS_2D,
        },
    }

    preset: Literal["paper", "paper-2d", "editing", "released", "released-2d"] = option(
        "paper", "Whose values to begin with."
    )
    scale: float = option(
        100.0, "Classifier-free guidance of SDS, before the bridge.", symbol="s", ge=0
    )
    switch_at: float = option(
        0.8, "When the bridge takes over from SDS, as a fraction of the steps.", ge=0, le=1
    )
    switch_at_step: int | None = option(None, "The same as a number of steps.", ge=0)
    bridge_weight: float = option(1.0, "Weight of the bridge.", symbol="w", gt=0)
    bridge_weighting: Weighting = option("uniform", "How that weight depends on t.")
    bridge_scale: float = option(
        1.0, "Classifier-free guidance of the bridge's target; 1 is none, as in the paper.", ge=0
    )
    source: Literal["text", "null", "estimator"] = option(
        "text",
        "Where the bridge begins. text: the prompt with artifacts. null: pictures of anything, as "
        "SDS takes it. estimator: a learned score of what is rendered, as in VSD.",
    )
    artifacts: tuple[Word, ...] = option(ARTIFACTS, "What the source text adds to the prompt.")
    domain: str = option("", "What it adds at its end, such as painting, when a picture is edited.")
    praise: tuple[str, ...] = option(
        PRAISE,
        "What the source text leaves out of the prompt, where it stands by itself between commas.",
    )
    target_words: tuple[Word, ...] = option((), "What the target text adds to the prompt.")
    sds_words: tuple[Word, ...] | None = option(
        None, "What SDS's text adds to the prompt, where that is not the target text."
    )
    source_text: str | None = option(
        None, "The source text by hand, in place of all that. View words are added.", min_length=1
    )
    target_text: str | None = option(None, "The target text by hand.", min_length=1)
    full_path: FullPathOptions = option(FullPathOptions(), "Many steps instead of one.")
    estimator: EstimatorOptions = option(
        EstimatorOptions(), "How the estimator learns, where the source is one; from step 0 on."
    )

    @model_validator(mode="after")
    def _phases_are_in_order(self) -> "BridgeOptions":
        begins, switch = self.full_path.start, self.switch_at
        if self.switch_at_step is None and begins < min(switch, 1):
            raise ValueError(
                f"full_path.start = {begins} lies before switch_at = {switch}: nothing would be "
                f"left of the single steps between. Set switch_at to {begins} or less."
            )
        return self

    @model_validator(mode="after")
    def _full_path_has_no_noise_to_share(self) -> "BridgeOptions":
        if self.source == "estimator" and self.estimator.shared_noise and self.full_path.start < 1:
            raise ValueError(
                "estimator.shared_noise is true, but the full path draws no noise that an "
                "estimator could learn from. Set estimator.shared_noise=false."
            )
        return self
