"""What a user may set of a volume, whatever its field."""

from typing import Literal

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from sd_core.config import Options, option
from sd_render.background import BackgroundOptions
from sd_render.schedules import Ramp, Stepwise
from sd_render.shading import ShadingOptions


class RegulariserOptions(Options):
    """Weights of what is added to the objective, beside the gradient of one mean sample.

    A number, or [[step, weight], ...] with straight lines in between.
    """

    sparsity: Ramp = option(0.0, "Of √(opacity² + 0.01), the mean (threestudio: 1 to 10).")
    opaqueness: Ramp = option(
        0.0, "Of the entropy of each pixel's opacity (threestudio's VSD: 1000 after step 10,000)."
    )
    entropy: Ramp = option(
        0.0, "Of the entropy of each sample's weight, in bits (ProlificDreamer: 10)."
    )
    orientation: Ramp = option(
        0.0, "Of normals that face away from the camera (DreamFusion: up to 1000)."
    )
    depth_variance: Ramp = option(0.0, "Of how thick the seen surface is (threestudio's SDI: 1).")
    total_variation: Ramp = option(0.0, "Of differences between neighbouring voxels.")


class VolumeOptions(Options):
    """A volume in the cube [-h, h]³, drawn by marching along rays."""

    half_extent: float = option(1.0, "Half the cube's side, in world units.", symbol="h", gt=0)
    size: Stepwise = option(
        64, "Pixels along a side while it learns: a number, or [[step, pixels], ...]."
    )
    samples: int = option(64, "Samples along a ray through the cube.", ge=1)
    most_samples: int = option(
        2**20,
        "Samples held at once; views with more are drawn in parts, and once more for the gradient.",
        ge=1,
    )
    marching: Literal["auto", "nerfacc", "batched"] = option(
        "auto", "How empty space is passed over; auto is nerfacc on CUDA where it can be used."
    )
    thin: float = option(
        0.02, "Density times h that still counts as none, so that fog is empty space.", ge=0
    )
    empty_after: float = option(
        0.3,
        "The share of the steps in which nothing counts as empty: matter may form anywhere.",
        ge=0,
        le=1,
    )
    cells: int = option(32, "Cells along a side in which emptiness is kept.", ge=1, le=256)
    cells_every: int = option(16, "Steps between looks at what is empty.", ge=1)
    density_unit: float = option(
        10.0, "Density times h where a softplus is 1: larger makes surfaces hard sooner.", gt=0
    )
    blob_strength: float = option(
        10.0, "The ball it starts as: raw density s·(1 - ‖x‖/r), Magic3D.", symbol="s", ge=0
    )
    blob_radius: float = option(0.5, "The radius of that ball, as a share of h.", symbol="r", gt=0)
    background: BackgroundOptions = option(BackgroundOptions(), "What is behind the object.")
    shading: ShadingOptions = option(ShadingOptions(), "Light, while it learns.")
    regularisers: RegulariserOptions = option(RegulariserOptions(), "What is added.")
    preview_size: int = option(128, "Pixels along a side of the pictures for people.", ge=1)
    preview_samples: int = option(128, "Samples along a ray of those.", ge=1)

    def blob(self, points: Float[Tensor, "*points 3"]) -> Float[Tensor, "*points"]:
        """b(x) = s·(1 - ‖x‖/(r·h)), above 0 inside the ball, ever less outside."""
        distance: Tensor = points.norm(dim=-1) / (self.blob_radius * self.half_extent)
        return self.blob_strength * (1 - distance)

    def activated(self, raw: Float[Tensor, "*points"]) -> Float[Tensor, "*points"]:
        """s = max(unit/h·softplus(raw) - thin/h, 0), with the gradient of the softplus alone.

        A softplus is never 0, and a little of it everywhere is fog that no ray could pass over. Its
        gradient stays: what is nothing yet may become something.
        """
        density = self.density_unit / self.half_extent * softplus(raw)
        return density - density.clamp_max(self.thin / self.half_extent).detach()
