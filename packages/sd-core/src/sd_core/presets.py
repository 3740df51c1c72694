"""Presets: named starting points of a method's options, such as what its released code computes."""

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import model_validator

from sd_core.config import Options, over


class PresetOptions(Options):
    """Options that begin where the preset says; what the user sets himself still counts.

    A subclass declares what each preset changes, and a field that names one:

        class MyOptions(PresetOptions):
            presets = {"released": {"estimator": {"camera_dropout": 0.1}}}
            preset: Literal["paper", "released"] = option("paper", "Whose values to begin with.")
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    @model_validator(mode="before")
    @classmethod
    def _begin_with_the_preset(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        name = values.get("preset", cls.model_fields["preset"].default)
        # A name that is not known, or no name at all, is refused by the field itself.
        begun = cls.presets.get(name, {}) if isinstance(name, str) else {}
        return over(values, begun)
