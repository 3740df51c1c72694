"""The five hooks. A plugin is a package that implements one of them; start reading here.

A plugin's module is imported whenever plugins are listed, so it imports nothing heavy: an entry
only names where its options and its code are, and they are imported when they are used.
"""

from collections.abc import Iterable

import pluggy

from sd_core.entries import (
    CommandEntry,
    GuidanceEntry,
    MetricEntry,
    PriorEntry,
    RendererEntry,
)

hookspec = pluggy.HookspecMarker("sd_core")
hookimpl = pluggy.HookimplMarker("sd_core")


@hookspec
def sd_guidance_methods() -> Iterable[GuidanceEntry]:  # type: ignore[empty-body]
    """Offer methods of score distillation.

    ```toml
    [project.entry-points.sd_core]
    drift = "sd_guidance_drift"
    ```
    ```python
    from sd_core import hookimpl
    from sd_core.entries import GuidanceEntry

    @hookimpl
    def sd_guidance_methods():
        return [GuidanceEntry(
            name="drift",
            summary="SDS whose noise drifts to the prior without a prompt",
            reference="Doe 2026, arXiv:2601.00000",
            config="sd_guidance_drift.drift:DriftOptions",
            build="sd_guidance_drift.drift:Drift",
        )]
    ```
    Called once, when the program starts. An experiment that names a method checks its options
    with `config`, a subclass of `sd_core.config.Options`, and calls `build(options, context)` with
    a `sd_core.guidance.GuidanceContext`; it gives an `AbstractGuidance`.
    """


@hookspec
def sd_renderers() -> Iterable[RendererEntry]:  # type: ignore[empty-body]
    """Offer kinds of scene, each with its differentiable renderer.

    ```toml
    [project.entry-points.sd_core]
    points = "sd_render_points"
    ```
    ```python
    from sd_core import hookimpl
    from sd_core.entries import RendererEntry

    @hookimpl
    def sd_renderers():
        return [RendererEntry(
            name="points",
            summary="A cloud of coloured discs",
            reference="Doe 2026, arXiv:2601.00000",
            config="sd_render_points.points:PointsOptions",
            build="sd_render_points.points:Points",
        )]
    ```
    Called once, when the program starts. A stage that names a renderer checks its options with
    `config`, a subclass of `sd_core.config.Options`, and calls `build(options, context)` with a
    `sd_core.renderer.RendererContext`; it gives an `AbstractRenderer`. Here `build` must be the
    class itself, no function: the cameras of a stage are read from its `default_cameras` before
    anything is built. Where a renderer is made of one other alone (`Options.made_of`), cameras,
    what suits the prior, and kinds of export are that other's.
    """


@hookspec
def sd_metrics() -> Iterable[MetricEntry]:  # type: ignore[empty-body]
    """Offer numbers that judge finished views.

    ```toml
    [project.entry-points.sd_core]
    sharpness = "sd_metric_sharpness"
    ```
    ```python
    from sd_core import hookimpl
    from sd_core.entries import MetricEntry

    @hookimpl
    def sd_metrics():
        return [MetricEntry(
            name="sharpness",
            summary="Mean squared Laplacian of the views",
            reference="Doe 2026, arXiv:2601.00000",
            config="sd_metric_sharpness.sharpness:SharpnessOptions",
            build="sd_metric_sharpness.sharpness:Sharpness",
        )]
    ```
    Called once, when the program starts. An evaluation that names a metric checks its options
    with `config`, a subclass of `sd_core.config.Options`, and calls `build(options, context)` with
    a `sd_core.metric.MetricContext`; it gives an `AbstractMetric`.
    """


@hookspec
def sd_priors() -> Iterable[PriorEntry]:  # type: ignore[empty-body]
    """Offer frozen models whose score moves the scene.

    ```toml
    [project.entry-points.sd_core]
    pixels = "sd_prior_pixels"
    ```
    ```python
    from sd_core import hookimpl
    from sd_core.entries import PriorEntry

    @hookimpl
    def sd_priors():
        return [PriorEntry(
            name="pixels",
            summary="A cascaded model that works on pixels",
            reference="Doe 2026, arXiv:2601.00000",
            config="sd_prior_pixels.pixels:PixelsOptions",
            build="sd_prior_pixels.pixels:Pixels",
        )]
    ```
    Called once, when the program starts. An experiment that names a prior checks its options
    with `config`, a subclass of `sd_core.config.Options`, and calls `build(options, context)` with
    a `sd_core.prior.PriorContext`; it gives an `AbstractPrior`. An entry may add `stages`, where a
    `sd_core.stage_defaults.StageDefaults` is: the scene and the cameras that suit this model.
    """


@hookspec
def sd_commands() -> Iterable[CommandEntry]:  # type: ignore[empty-body]
    """Offer commands: `score-distill NAME`, for work around an experiment.

    ```toml
    [project.entry-points.sd_core]
    atlas = "sd_command_atlas"
    ```
    ```python
    from sd_core import hookimpl
    from sd_core.entries import CommandEntry

    @hookimpl
    def sd_commands():
        return [CommandEntry(
            name="atlas",
            summary="Pictures of the prompt from all sides, by the prior alone",
            reference="Doe 2026, arXiv:2601.00000",
            config="sd_command_atlas.atlas:AtlasOptions",
            build="sd_command_atlas.atlas:make_atlas",
        )]
    ```
    Called once, with every other hook. A command is looked up only where the first word is none
    that is built in. The experiment is told as `run` is told it, by a file, `--prompt` and `--set`,
    and is checked; it need not be run.
    `--with KEY=VALUE` sets the command's own options, checked with `config`, a subclass of
    `sd_core.config.Options`. Then the host calls `build(options, context)` with a
    `sd_core.command.CommandContext`; it does the work and gives nothing.
    """
