"""What a stage is where the experiment says nothing: a prior knows what suits its pictures.

A scene is judged well only from where the prior's own pictures were taken. So a `PriorEntry` may
name a `StageDefaults`; an experiment's own words go over it, option by option, and the run folder
records what came of both.
"""

from sd_core.config import Options, option, over
from sd_core.experiment_options import Table


class SceneDefaults(Options):
    """With one renderer: tables as a stage has them, and its number of steps."""

    renderer: Table = option({}, "Options of the renderer.")
    cameras: Table = option({}, "Options of the cameras, over those for every scene.")
    optimiser: Table = option({}, "Options of the optimiser.")
    steps: int | None = option(None, "Optimisation steps.", ge=1)


class StageDefaults(Options):
    """For every scene, and for those that the prior's author knows."""

    cameras: Table = option({}, "From where the prior's pictures were taken.")
    scenes: dict[str, SceneDefaults] = option(
        {}, "By the renderer's name. The first that is installed is the usual scene."
    )

    def of(self, renderer: str) -> SceneDefaults:
        """For one renderer, whether or not the prior's author knows it."""
        own = self.scenes.get(renderer, SceneDefaults())
        return own.model_copy(update={"cameras": over(own.cameras, self.cameras)})


NONE = StageDefaults()
