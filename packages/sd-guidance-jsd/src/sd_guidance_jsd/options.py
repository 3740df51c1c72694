"""The options of Jensen–Shannon score distillation, and its presets."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import model_validator

from sd_core.config import Options, option
from sd_core.presets import PresetOptions
from sd_core.residual import ResidualOptions
from sd_core.timesteps import TimestepOptions


class InversionOptions(Options):
    """How a clean sample becomes x̂_t, and what that costs."""

    steps: int = option(
        10,
        "even: hops from clean to each t. fixed: levels of the sampler over the whole noise "
        "schedule; one hop to each below t, and one to t.",
        symbol="n",
        ge=1,
    )
    grid: Literal["even", "fixed"] = option(
        "even", "Where the hops land: evenly up to each t, or at the same levels for every t."
    )
    scale: float = option(
        1.0, "Classifier-free guidance on the way up; 1 is none, and half the cost of any other."
    )
    eta: float = option(
        0.0, "Fresh noise at every hop, as a share of DDIM's variance.", symbol="η", ge=0
    )
    overshoot: float = option(
        0.0,
        "The way up ends a random bit above t, at most this fraction of the noise schedule; the "
        "sample is judged at t all the same.",
        symbol="δ",
        ge=0,
        lt=1,
    )


class JSDOptions(PresetOptions, ResidualOptions):
    """The paper's values; it prints none for t, w(t) and the guidance of the inversion.

    `released`: what the code computes, which is another method; its Perp-Neg is `prompt.perp_neg`,
    without which nothing is pushed away. With k = 0 and its two scales it is the loss of SDI's
    released code.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "released": {
            "form": "attraction",
            "denoise": "guided",
            "weight": "uniform",
            "reduction": "mean",
            "inversion": {"grid": "fixed", "scale": -13.5, "eta": 0.3, "overshoot": 0.1},
        }
    }

    preset: Literal["paper", "released"] = option("paper", "Whose values to begin with.")
    form: Literal["difference", "attraction"] = option(
        "difference",
        "difference: w·(α/σ)·(ε̂(x̂_t) - ε̂(x̄_t)), as printed. attraction: w·[(z - x̂0_HD) + "
        "k·(z - x̂0_LD)], as released.",
    )
    scale: float = option(
        13.5,
        "Classifier-free guidance at both samples: uncond + s·(text - uncond).",
        symbol="s",
        ge=0,
    )
    denoise: Literal["text", "guided"] = option(
        "text",
        "What turns x̂_t into the clean latents of the minority sample: ε(x̂_t, y) as printed, or "
        "the guided ε̂(x̂_t, y) as released.",
    )
    low_density_weight: float = option(
        1.0, "attraction: weight of the pull of the minority sample.", symbol="k", ge=0
    )
    reduction: Literal["sum", "mean"] = option(
        "sum",
        "mean: the gradient is divided by the number of elements of a sample, as in codes whose "
        "loss is a mean. Beside regularisers it then counts that much less.",
    )
    inversion: InversionOptions = option(InversionOptions(), "The way from the picture to x̂_t.")
    timesteps: TimestepOptions = option(
        TimestepOptions(schedule="linear-descent"),
        "Which t at which step, by default as released: from 0.98 down to 0.25.",
        symbol="t",
    )

    @model_validator(mode="after")
    def _all_that_is_told_counts(self) -> "JSDOptions":
        """k counts in the attraction alone. By value, since a resumed run tells every option."""
        default = type(self).model_fields["low_density_weight"].default
        usual = self.presets.get(self.preset, {}).get("low_density_weight", default)
        if self.form == "difference" and self.low_density_weight != usual:
            raise ValueError(
                f"low_density_weight is {self.low_density_weight}, but the form 'difference' has "
                "no such weight. Remove it, or set form to 'attraction'."
            )
        return self
