"""A method put together from parts of others."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field
from torch import Generator, nn

from sd_core.cameras import CameraBatch
from sd_core.config import Options, option
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


class Mix(AbstractResidual):
    """g = w(t)·(target of one method - source of another), at a third one's noised sample.

    A method named for several parts is built once, so that its parts share their state.
    """

    def __init__(self, config: MixOptions, context: GuidanceContext) -> None:
        super().__init__(config.weight, context)
        self.config = config
        names = {"noising": config.noising, "target": config.target, "source": config.source}
        _check_options(config, names.values())
        self.methods = nn.ModuleDict()
        for name in names.values():
            if name not in self.methods:
                self.methods[name] = context.find(name, config.options.get(name, {}))
        for part, name in names.items():
            _check_part(part, name, self.methods[name], config.noising)

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


def _check_options(config: MixOptions, names: Any) -> None:
    unused = sorted(set(config.options) - set(names))
    if unused:
        raise ConfigError(
            f"guidance 'mix' has options for '{unused[0]}', but no part comes from it. "
            f"Name it as noising, target or source, or remove guidance.options.{unused[0]}."
        )


def _check_part(part: str, name: str, method: nn.Module, noising: str) -> None:
    if not isinstance(method, AbstractResidual):
        raise ConfigError(
            f"guidance 'mix' cannot take its {part} from '{name}': that method is not made of a "
            "noising, a target and a source. Use it as a whole: --guidance " + name + "."
        )
    if part != "noising" and method.needs_own_noising and name != noising:
        raise ConfigError(
            f"guidance 'mix': the {part} of '{name}' is only right at the samples that '{name}' "
            f"noises itself, but the noising is '{noising}'. Set guidance.noising={name}."
        )
