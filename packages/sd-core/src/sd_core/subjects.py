"""What `score-distill evaluate` judges: the scene of a run, or pictures in a folder."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import torch

from sd_core.atomic import disk_errors
from sd_core.building import build_prior
from sd_core.cameras import CameraBatch
from sd_core.captions import CAPTIONS, read_captions
from sd_core.config import Options
from sd_core.errors import ConfigError
from sd_core.evaluation import Batch, Rings, ViewOptions, Views, take_views
from sd_core.experiment import Experiment
from sd_core.experiment_options import Table
from sd_core.metric import AbstractMetric
from sd_core.picture_folder import PictureFolder, picture_files
from sd_core.report import is_report
from sd_core.run_folder import RunFolder
from sd_core.saved_scene import SavedScene, load_scene
from sd_core.shapes import Images, Latents

_DEEPEST = 3  # folders within folders that are searched


@dataclass(frozen=True, eq=False)
class Subject(ABC):
    """One line of the table.

    `path` is its folder, `name` what it is called in the table, `method` the group whose mean it
    enters, and `prior` whose pictures it has, if anybody knows.
    """

    path: Path
    name: str
    method: str
    prior: str | None

    @property
    def record(self) -> Path:
        return self.path / "metrics.json"

    @abstractmethod
    def objects(self, metric: AbstractMetric) -> list[Views]:
        """Each object's views, from where this metric wants to see it."""

    @abstractmethod
    def views(self) -> Table:
        """How pictures were taken where the metric has no wish of its own."""

    @abstractmethod
    def scene(self) -> Table:
        """What was judged, for metrics.json."""

    def remark(self) -> str | None:
        """Something that its user should know."""
        return None

    def forget(self) -> None:
        """Lets go of what was loaded, of which hundreds of subjects have too much."""
        return


@dataclass(frozen=True, eq=False)
class RunSubject(Subject):
    """The scene of a run, at the end of a stage or as it is now; several scenes, if it has them."""

    folder: RunFolder
    experiment: Experiment
    options: ViewOptions
    stage: int | None

    @cached_property
    def _scene(self) -> SavedScene:
        device = torch.device(self.experiment.options.run.device)
        return load_scene(self.folder, self.experiment, device=device, stage=self.stage)

    @cached_property
    def _decode(self) -> Callable[[Latents], Images]:
        """The prior's, which may be large."""
        return build_prior(self.experiment).decode

    @cached_property
    def _rings(self) -> Rings:
        return Rings.seen_by(self.experiment.stages[self._scene.stage].cameras, self.options)

    @cached_property
    def _usual(self) -> list[list[Batch]]:
        """Of each single scene, as several metrics look at them."""
        return [list(batches()) for batches in self._taken(self._rings.cameras())]

    def objects(self, metric: AbstractMetric) -> list[Views]:
        rings = self._rings
        wanted = metric.wanted_cameras(
            distance=rings.distance, vertical_fov_deg=rings.vertical_fov_deg
        )
        prompt = self.experiment.options.prompt.text
        if wanted is None:
            return [Views(prompt, {}, partial(list, own), self.name) for own in self._usual]
        recipe = self._own_views(wanted)
        return [Views(prompt, recipe, batches, self.name) for batches in self._taken(wanted)]

    def views(self) -> Table:
        return {**self._rings.recipe(), **self._picture()}

    def scene(self) -> Table:
        options = self.experiment.options
        return {
            "stage": self._scene.stage,
            "steps_done": self._scene.steps_done,
            "prompt": options.prompt.text,
            "seed": options.seed,
        }

    def remark(self) -> str | None:
        scene, last = self._scene, len(self.experiment.stages) - 1
        steps = self.experiment.stages[scene.stage].options.steps
        if self.stage is not None or (scene.stage, scene.steps_done) == (last, steps):
            return None
        return (
            f"{self.name} is not finished: its scene after {scene.steps_done} steps of stage "
            f"{scene.stage} is judged"
        )

    def forget(self) -> None:
        for name in ("_scene", "_decode", "_rings", "_usual"):
            self.__dict__.pop(name, None)

    def _taken(self, cameras: CameraBatch) -> list[Callable[[], Iterator[Batch]]]:
        """Of each single scene."""
        scenes = self._scene.renderer.single_scenes
        cameras = cameras.to(next(scenes[0].parameters()).device)
        # The prior is not built before there are latents to decode.
        return [partial(take_views, each, cameras, lambda z: self._decode(z)) for each in scenes]

    def _own_views(self, cameras: CameraBatch) -> Table:
        told = {"count": len(cameras), "distance": self._rings.distance}
        return {**told, "vertical_fov_deg": self._rings.vertical_fov_deg, **self._picture()}

    def _picture(self) -> Table:
        """Size and background; the latter is that of the renderer's options, if it has one."""
        background = self._renderer().model_dump(mode="json").get("background")
        return {"size": list(self._usual[0][0].images.shape[2:]), "background": background}

    def _renderer(self) -> Options:
        """Of the scene at this stage, which may have gone on with that of the one before."""
        upto = reversed(self.experiment.stages[: self._scene.stage + 1])
        return next(each.renderer.innermost().options for each in upto if each.renderer)


@dataclass(frozen=True, eq=False)
class PictureSubject(Subject):
    """Pictures of anybody's; nobody knows from where they were taken."""

    pictures: PictureFolder
    device: torch.device

    def objects(self, metric: AbstractMetric) -> list[Views]:
        found = self.pictures
        return [
            Views(prompt, {}, partial(self._batches, prompt), self.name) for prompt in found.files
        ]

    def views(self) -> Table:
        counts = {prompt: len(files) for prompt, files in self.pictures.files.items()}
        return {"pictures": counts, "size": list(self.pictures.size), "background": "as they are"}

    def scene(self) -> Table:
        skipped = self.pictures.skipped
        told = {"pictures_sha256": self.pictures.digest}
        return {**told, **({"skipped": skipped} if skipped else {})}

    def remark(self) -> str | None:
        skipped = [f"{name}: {what}" for name, what in self.pictures.skipped.items()]
        return f"{self.name}, left out: {'; '.join(skipped)}" if skipped else None

    def _batches(self, prompt: str) -> Iterator[Batch]:
        for images in self.pictures.batches(prompt):
            yield Batch(images.to(self.device), None)


def found_folders(paths: Sequence[Path]) -> list[tuple[Path, str | None]]:
    """Each run and each folder of pictures, once, and the group that it was found in.

    A path that is neither is searched, a few folders deep; all that is in it is one group, called
    as the path is, or by the whole path where two have the same name.
    """
    found: dict[Path, tuple[Path, str | None]] = {}
    names = [path.resolve().name for path in paths]
    for path in paths:
        name = path.resolve().name
        group = name if names.count(name) == 1 else str(path)
        within = list(_within(path, _DEEPEST)) if path.is_dir() and not is_run(path) else []
        if _is_one(path):
            _refuse_both(path, within)
            found.setdefault(path.resolve(), (path, None))
            continue
        if not within:
            raise ConfigError(
                f"{path} is no run folder, and there is neither a run nor a picture in it. Give "
                "folders that `score-distill run` made, or folders of pictures."
            )
        for each in within:
            found.setdefault(each.resolve(), (each, group))
    return list(found.values())


def is_run(path: Path) -> bool:
    return (path / "config.json").is_file()


def _is_one(path: Path) -> bool:
    """What cannot be opened counts: opening it will say why."""
    listed = (path / CAPTIONS).is_file()
    return not path.is_dir() or is_run(path) or listed or bool(picture_files(path))


def _within(path: Path, depth: int) -> Iterator[Path]:
    with disk_errors(path):
        folders = sorted(each for each in path.iterdir() if each.is_dir())
    for each in folders:
        if each.name.startswith(".") or is_report(each):
            continue
        if _is_one(each):
            if not is_run(each):
                _refuse_both(each, list(_within(each, depth - 1)) if depth > 1 else [])
            yield each
        elif depth > 1:
            yield from _within(each, depth - 1)


def _refuse_both(path: Path, within: list[Path]) -> None:
    """Folders whose pictures the one around them lists are its own."""
    listed = {(path / name).parent for name in read_captions(path) or ()} if within else set()
    others = [each for each in within if each not in listed]
    if others:
        raise ConfigError(
            f"{path} holds pictures, and in {others[0].name} more of them or a run. Name the "
            "folders that are meant, or move its pictures into one of their own."
        )
