"""A plugin for tests: a prior that knows what suits it, and two that are mistaken."""

from typing import ClassVar

from fake_plugin import Tiles
from sd_core.camera_sampling import CameraOptions
from sd_core.config import Options
from sd_core.entries import PriorEntry, RendererEntry
from sd_core.hookspecs import hookimpl
from sd_core.stage_defaults import SceneDefaults, StageDefaults

KNOWN = StageDefaults(
    cameras={"distance": [2.0, 2.0], "batch": 7},
    scenes={
        "not-installed": SceneDefaults(),
        "film": SceneDefaults(
            renderer={"side": 5},
            cameras={"batch": 3},
            optimiser={"learning_rate": 0.5, "name": "sgd"},
            steps=12,
        ),
    },
)
WRONG = {"steps": 3}
REMOTE = StageDefaults(scenes={"hologram": SceneDefaults(), "diorama": SceneDefaults()})
MISTAKEN = StageDefaults(cameras={"distence": [2.0, 2.0]})


class NoOptions(Options):
    """None."""


class Film(Tiles):
    default_cameras: ClassVar[CameraOptions] = CameraOptions(batch=4, elevation_deg=(5.0, 6.0))


@hookimpl
def sd_renderers():
    return [RendererEntry("film", "Tiles", "", "fake_plugin:TilesOptions", "photo_prior:Film")]


@hookimpl
def sd_priors():
    def prior(name, stages):
        return PriorEntry(
            name, "Of photographs", "", "photo_prior:NoOptions", "photo_prior:build", stages
        )

    return [
        prior("photos", "photo_prior:KNOWN"),
        prior("wrong", "photo_prior:WRONG"),
        prior("mistaken", "photo_prior:MISTAKEN"),
        prior("remote", "photo_prior:REMOTE"),
    ]
