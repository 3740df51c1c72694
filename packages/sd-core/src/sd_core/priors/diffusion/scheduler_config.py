"""The noise schedule and the kind of output that a model was trained with, from its own files."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Literal, cast, get_args

from sd_core.errors import ConfigError
from sd_core.noising import NoiseSchedule

PredictionType = Literal["epsilon", "v_prediction", "flow"]

_TRAINING_KEYS = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "rescale_betas_zero_snr",
)


def schedule_of(config: Mapping[str, Any]) -> NoiseSchedule:
    """α_t = √ᾱ_t, σ_t = √(1 − ᾱ_t) of scheduler_config.json; for a flow, its σ_t with α = 1 − σ.

    Only how the model was trained counts, so whichever sampler the file names is not asked.
    """
    if prediction_of(config) == "flow":
        steps, shift = config.get("num_train_timesteps", 1000), config.get("shift", 1.0)
        return NoiseSchedule.rectified_flow(steps, shift)
    training = {key: config[key] for key in _TRAINING_KEYS if config.get(key) is not None}
    try:
        scheduler = import_module("diffusers").DDIMScheduler(**training)
        return NoiseSchedule.from_alphas_cumprod(scheduler.alphas_cumprod)
    except (NotImplementedError, ValueError) as error:
        raise ConfigError(
            f"the model's scheduler_config.json gives no noise schedule: {error}. "
            "Correct its betas."
        ) from None


def prediction_of(config: Mapping[str, Any]) -> PredictionType:
    """What the network predicts: ε, v or a flow."""
    name = str(config.get("_class_name", ""))
    if name.startswith("FlowMatch"):
        return "flow"
    kind = config.get("prediction_type", "epsilon")
    if kind not in get_args(PredictionType) or name.startswith("EDM"):
        raise ConfigError(
            f"the model's scheduler is {name} with prediction_type '{kind}', but the prior knows "
            f"{', '.join(get_args(PredictionType))}. Choose another model."
        )
    return cast(PredictionType, kind)
