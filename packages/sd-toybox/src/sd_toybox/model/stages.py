"""What a stage is with the toybox unless told: seen as the world's photographers see their toys."""

from typing import Final

from sd_core.stage_defaults import SceneDefaults, StageDefaults
from sd_toybox.world.rates import DISTANCE, ELEVATION_DEG, VERTICAL_FOV_DEG

# Toys lie within 0.7 of the origin, and four views a step are what two cores have time for.
_HALF_EXTENT: Final = 0.7
_VIEWS: Final = 4

STAGES: Final = StageDefaults(
    cameras={
        "elevation_deg": list(ELEVATION_DEG),
        "elevation_law": "degrees",
        "distance": list(DISTANCE),
        "vertical_fov_deg": list(VERTICAL_FOV_DEG),
    },
    scenes={
        "voxel-grid": SceneDefaults(
            # A third of the samples of 64² views with 64 a ray; the prior sees them resized to 64²,
            # in latents of 16² places.
            renderer={"half_extent": _HALF_EXTENT, "size": 48, "samples": 40},
            cameras={"batch": _VIEWS},
            optimiser={"learning_rate": 0.05},
            steps=300,
        ),
        "hash-grid": SceneDefaults(
            renderer={"half_extent": _HALF_EXTENT}, cameras={"batch": _VIEWS}
        ),
        # A picture's cameras are places of a window: it may be anywhere.
        "picture": SceneDefaults(cameras={"elevation_deg": [-90.0, 90.0]}),
    },
)
