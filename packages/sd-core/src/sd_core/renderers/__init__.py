"""The built-in scenes: the smallest with a distribution of views, and several of any other."""

from sd_core.entries import RendererEntry
from sd_core.hookspecs import hookimpl


@hookimpl
def sd_renderers() -> list[RendererEntry]:
    return [
        RendererEntry(
            name="affine",
            summary="A Gaussian of points x = b + A·c, one point for each camera",
            reference="Wang et al. 2024, ESD, App. B, arXiv:2401.00909",
            config="sd_core.renderers.affine:AffineOptions",
            build="sd_core.renderers.affine:Affine",
        ),
        RendererEntry(
            name="particles",
            summary="Several scenes of one kind that share the method's estimator",
            reference="Wang et al. 2023, ProlificDreamer, arXiv:2305.16213, algorithm 1",
            config="sd_core.renderers.particles:ParticlesOptions",
            build="sd_core.renderers.particles:Particles",
        ),
    ]
