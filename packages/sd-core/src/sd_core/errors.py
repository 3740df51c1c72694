"""What a user can get wrong. The command line shows these as one line and exits with code 2.

Every message says what is wrong, what was expected and what to do. A mistake of our own is not
one of these: it stays a traceback.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class ScoreDistillationError(Exception):
    """The base of every error that the user can mend."""


class ConfigError(ScoreDistillationError):
    """An option, key or value that does not fit."""


class PluginError(ScoreDistillationError):
    """A plugin that is missing, broken or malformed."""


class PluginClash(PluginError):
    """Two plugins that offer the same name."""


class CheckpointError(ScoreDistillationError):
    """A checkpoint that is cut short, of another experiment, or from another schema."""


class RunFolderError(ScoreDistillationError):
    """A run folder that cannot be used or written."""


class NonFiniteGradientError(ScoreDistillationError):
    """A method gave NaN or infinity; never papered over."""


class EstimatorDiverged(NonFiniteGradientError):
    """It was the method's own estimator, which has a learning rate of its own."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint such as " Did you mean 'esd'?" where a known name is close, else nothing."""
    close = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean '{close[0]}'?" if close else ""
