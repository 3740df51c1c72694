"""sd_core: the small core of a score-distillation toolkit.

A frozen text-to-image model judges rendered views of a scene, and its score moves the scene. The
core holds what every method shares (contracts, discovery, noise arithmetic, the loop, run folders);
the methods, renderers and metrics are plugins. Start reading at `hookspecs.py`.

Importing this package is cheap on purpose: plugins import it while they are being listed, and
nothing heavier than pluggy may load then.
"""

from sd_core.hookspecs import hookimpl

__all__ = ["hookimpl"]
