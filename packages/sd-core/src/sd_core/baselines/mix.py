"""A method put together from parts of others."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field, model_validator
from torch import Generator, nn

from sd_core.cameras import CameraBatch
from sd_core.config import Options, option, shown
from sd_core.errors import ConfigError
from sd_core.guidance import GuidanceContext
from sd_core.noising import Noised
from sd_core.residual import AbstractResidual, ObservedResidual, Prediction
from sd_core.shapes import Latents
from sd_core.step import Step
from sd_core.weighting import Weighting


class MixOptions(Options):
    """Which part comes from which method."""

    noising: str = option("sds", "The method whose noised samples are judged.")
    target: str = option("sds", "The method that says where a sample should go.")
    source: str = option("sds", "The method that says where a sample is now.")
    weight: Weighting = option("sigma-squared", "Weight of the residual over time.", symbol="w(t)")
    options: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="For each method named above, a table of that method's own options.",
    )

    @model_validator(mode="after")
    def _all_options_count(self) -> "MixOptions":
        for name, told in self.options.items():
            if name not in self.made_of():
                raise ValueError(
                    f"there are options for '{name}', but no part comes from it. "
                    f"Name it as noising, target or source, or remove options.{name}."
                )
            for key in sorted(self._without_effect(name) & set(told)):
                instead = {
                    "weight": "a mix weighs with its own weight. Remove it, or set that one",
                    "timesteps": f"t comes from the noising, '{self.noising}'. "
                    f"Remove it, or set options.{self.noising}.timesteps",
                }[key]
                raise ValueError(f"options.{name}.{key} is {shown(told[key])}, but {instead}.")
        return self

    def made_of(self) -> dict[str, dict[str, Any]]:
        names = (self.noising, self.target, self.source)
        return {name: self.options.get(name, {}) for name in names}

    def resolved(self, parts: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
        """Without what would be refused, so that the recorded experiment can be run again."""
        options = {
            name: {
                key: value for key, value in own.items() if key not in self._without_effect(name)
            }
            for name, own in parts.items()
        }
        return {**super().resolved(parts), "options": options}

    def _without_effect(self, name: str) -> set[str]:
        """The options of a method that a mix takes no notice of."""
        return {"weight"} if name == self.noising else {"weight", "timesteps"}


class Mix(AbstractResidual):
    """g = w(t)·(target of one method - source of another), at a third one's noised sample.

    A method named for several parts is built once, so that its parts share their state.
    """

    def __init__(self, config: MixOptions, context: GuidanceContext) -> None:
        super().__init__(config.weight, context)
        self.config = config
        names = {"noising": config.noising, "target": config.target, "source": config.source}
        self.methods = nn.ModuleDict()
        for name, options in config.made_of().items():
            self.methods[name] = context.find(name, options)
        for part, name in names.items():
            _check_part(part, name, self.methods[name], config.noising)
        for name in {config.noising, config.target} - {config.source}:
            self._method(name).give_up_source()

    def noised(
        self, latents: Latents, cameras: CameraBatch, *, step: Step, generator: Generator
    ) -> Noised:
        method = self._method(self.config.noising)
        return method.noised(latents, cameras, step=step, generator=generator)

    def target(
        self, noised: Noised, cameras: CameraBatch, *, step: Step, generator: Generator
    ) -> Prediction:
        method = self._method(self.config.target)
        return method.target(noised, cameras, step=step, generator=generator)

    def source(
        self, noised: Noised, cameras: CameraBatch, *, step: Step, generator: Generator
    ) -> Prediction:
        method = self._method(self.config.source)
        return method.source(noised, cameras, step=step, generator=generator)

    def learn_target(
        self, seen: ObservedResidual, cameras: CameraBatch, *, step: Step, generator: Generator
    ) -> Mapping[str, float]:
        method = self._method(self.config.target)
        return method.learn_target(seen, cameras, step=step, generator=generator)

    def learn_source(
        self, seen: ObservedResidual, cameras: CameraBatch, *, step: Step, generator: Generator
    ) -> Mapping[str, float]:
        method = self._method(self.config.source)
        return method.learn_source(seen, cameras, step=step, generator=generator)

    def _method(self, name: str) -> AbstractResidual:
        method = self.methods[name]
        assert isinstance(method, AbstractResidual)
        return method


def _check_part(part: str, name: str, method: nn.Module, noising: str) -> None:
    if not isinstance(method, AbstractResidual):
        raise ConfigError(
            f"guidance 'mix' cannot take its {part} from '{name}': that method is not made of a "
            "noising, a target and a source. Use it as a whole: --guidance " + name + "."
        )
    for own in ("gradient", "update_estimator"):
        if getattr(type(method), own) is not getattr(AbstractResidual, own):
            raise ConfigError(
                f"guidance 'mix' cannot take its {part} from '{name}': that method has a {own} of "
                f"its own, which its parts do not tell. Use it as a whole: --guidance {name}."
            )
    if part != "noising" and method.needs_own_noising and name != noising:
        raise ConfigError(
            f"guidance 'mix': the {part} of '{name}' is only right at the samples that '{name}' "
            f"noises itself, but the noising is '{noising}'. Set guidance.noising={name}."
        )
