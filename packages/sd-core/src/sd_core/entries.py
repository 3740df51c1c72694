"""What the hooks return: a name, a sentence, and where the options and the code are.

An entry holds import strings instead of classes, so that listing what is installed imports no
method, no model and no torch.
"""

import re
import sys
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, ClassVar

from sd_core.errors import PluginError, ScoreDistillationError, nearest

_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_IMPORT_STRING = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
_IMPORT_HINT = " Write 'my_package.my_module:MyName': listing plugins must not import the code."


@dataclass(frozen=True)
class Entry:
    """One thing that a plugin offers; use the subclass that the hook asks for.

    name       kebab-case; what users type, so it never changes
    summary    one line for `score-distill plugins`
    reference  the paper or page it comes from
    config     where its options are, as "package.module:Name"
    build      where the callable is that makes it, as "package.module:Name"; what it is called with
               is in the hook's docstring
    """

    kind: ClassVar[str] = "entry"
    imported: ClassVar[tuple[str, ...]] = ("config", "build")

    name: str
    summary: str
    reference: str
    config: str
    build: str

    def __post_init__(self) -> None:
        for field in ("name", "summary", "reference", *self.imported):
            value = getattr(self, field)
            if not isinstance(value, str):
                raise PluginError(
                    f"{self.kind} {self.name!r}: {field} is {value!r}, expected a string."
                    + (_IMPORT_HINT if field in self.imported else "")
                )
        if not _NAME.fullmatch(self.name):
            raise PluginError(
                f"{self.kind} name {self.name!r} is malformed: expected lower-case letters and "
                f"digits joined by single hyphens. Name it {_kebab(self.name)!r}."
            )
        if not self.summary.strip():
            raise PluginError(
                f"{self.kind} '{self.name}' has an empty summary, expected one line that tells it "
                "from the others. Write one."
            )
        for field in self.imported:
            value = getattr(self, field)
            if not _IMPORT_STRING.fullmatch(value):
                raise PluginError(
                    f"{self.kind} '{self.name}': {field} is {value!r}, expected the form "
                    f"'package.module:Name'.{_IMPORT_HINT}"
                )

    def load_config(self) -> Any:
        """The class of its options; imported now, on first use."""
        return self._load(self.config)

    def load_build(self) -> Any:
        """The callable that makes it, `build(options, context)`; imported now, on first use."""
        return self._load(self.build)

    def _load(self, string: str) -> Any:
        module, _, name = string.partition(":")
        try:
            return getattr(import_module(module), name)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # such as an OSError for a missing native library
            raise PluginError(
                f"{self.kind} '{self.name}' cannot load '{string}': {_why(error, module, name)}"
            ) from error


@dataclass(frozen=True)
class GuidanceEntry(Entry):
    """A method of score distillation, from `sd_guidance_methods`."""

    kind: ClassVar[str] = "guidance"


@dataclass(frozen=True)
class RendererEntry(Entry):
    """A scene and its differentiable renderer, from `sd_renderers`."""

    kind: ClassVar[str] = "renderer"


@dataclass(frozen=True)
class MetricEntry(Entry):
    """A number that judges finished views, from `sd_metrics`.

    by_default  whether `score-distill evaluate` asks it where its user names no metric: not if it
                needs to be told a file, or loads a model of its own
    """

    kind: ClassVar[str] = "metric"

    by_default: bool = True


@dataclass(frozen=True)
class PriorEntry(Entry):
    """A frozen model whose score moves the scene, from `sd_priors`.

    stages    where a `sd_core.stage_defaults.StageDefaults` is, as "package.module:NAME": the scene
              and the cameras that suit this model, for experiments that name none
    encoders  where a `sd_core.encoders.usual.Encoders` is, in the same way: the models that read
              its pictures, for metrics that are told none
    """

    kind: ClassVar[str] = "prior"
    imported: ClassVar[tuple[str, ...]] = ("config", "build", "stages", "encoders")

    stages: str = "sd_core.stage_defaults:NONE"
    encoders: str = "sd_core.encoders.usual:USUAL"

    def load_stages(self) -> Any:
        """Its stage defaults; imported now, on first use."""
        return self._load(self.stages)

    def load_encoders(self) -> Any:
        """The models that read its pictures; imported now, on first use."""
        return self._load(self.encoders)


@dataclass(frozen=True)
class CommandEntry(Entry):
    """A command of `score-distill`, from `sd_commands`; its `build` does the work."""

    kind: ClassVar[str] = "command"


def _kebab(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "my-name"


def _why(error: BaseException, module: str, name: str) -> str:
    """The cause of a failed `from module import name`, and the remedy."""
    loaded = sys.modules.get(module)
    if isinstance(error, AttributeError) and error.name == name and error.obj is loaded:
        hint = nearest(name, vars(loaded))
        return f"the module has no '{name}'.{hint} Correct the string in the plugin."
    if isinstance(error, ModuleNotFoundError) and error.name:
        return _why_missing(error.name, module)
    told = " ".join(str(error).split())
    if isinstance(error, ScoreDistillationError):  # says the remedy itself
        return told
    cause = f"{type(error).__name__}: {told.removesuffix('.')}" if told else type(error).__name__
    return f"{cause}. Update or repair the plugin."


def _why_missing(missing: str, module: str) -> str:
    top = missing.partition(".")[0]
    if top == module.partition(".")[0]:
        return f"there is no module '{missing}'. Correct the string, or reinstall the plugin."
    if missing != top and find_spec(top) is not None:
        return (
            f"it needs the module '{missing}', which the installed '{top}' does not have. "
            f"Install the version of '{top}' that the plugin asks for."
        )
    return (
        f"it needs the module '{top}', which is not installed. "
        f"Install the package that provides it, often: pip install {top}"
    )
