"""The built-in scene: the smallest one that has a distribution of views."""

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
    ]
