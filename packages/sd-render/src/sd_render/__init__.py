"""Scenes and their differentiable renderers, found by sd-core at run time."""

from sd_core import hookimpl
from sd_core.entries import RendererEntry


@hookimpl
def sd_renderers() -> list[RendererEntry]:
    return [
        RendererEntry(
            name="picture",
            summary="The scene is the picture, or its latents, or several of them as particles",
            reference="Wang et al. 2024, ESD, arXiv:2401.00909, appendix B",
            config="sd_render.picture:PictureOptions",
            build="sd_render.picture:Picture",
        ),
        RendererEntry(
            name="voxel-grid",
            summary="Density and colour on a grid that grows: fast on a CPU",
            reference="Sun et al. 2022, DVGO, arXiv:2111.11215",
            config="sd_render.voxel_grid:VoxelGridOptions",
            build="sd_render.voxel_grid:VoxelGrid",
        ),
        RendererEntry(
            name="hash-grid",
            summary="A NeRF on a multi-resolution hash encoding (Instant-NGP)",
            reference="Müller et al. 2022, Instant-NGP, arXiv:2201.05989",
            config="sd_render.hash_grid:HashGridOptions",
            build="sd_render.hash_grid:HashGrid",
        ),
    ]
