"""What a user may choose when a volume is written as a mesh."""

from typing import Literal

from sd_core.config import Options, option
from sd_core.errors import ConfigError

Material = Literal["unlit", "matte"]


class MeshOptions(Options):
    """How the surface is found, made lighter and coloured."""

    resolution: int = option(
        128, "Grid points along the cube's side where the density is looked up.", ge=8, le=1024
    )
    level: float | None = option(
        None,
        "Density of the surface; without it, the one whose outline fits the renders best.",
        gt=0.0,
    )
    smallest_part: float = option(
        0.01,
        "Loose parts with fewer triangles than this share of the largest part's are dropped.",
        ge=0.0,
        le=1.0,
    )
    parts: int | None = option(None, "At most this many of the largest parts; none: all.", ge=1)
    fill_holes: bool = option(
        True, "Fill hollows inside, which cannot be seen; the surface itself comes closed."
    )
    faces: int | None = option(
        20000, "Most triangles in the file, no fewer than 100; 0: as many as the grid gives.", ge=0
    )
    colours: Literal["texture", "vertices"] = option(
        "texture", "A picture wrapped round the mesh, or one colour a vertex (ply: always that)."
    )
    texture_size: int = option(1024, "Width and height of the texture in texels.", ge=64, le=8192)
    material: Material = option(
        "unlit", "Shown as rendered, or lit once more by the viewer's own lights."
    )

    def check(self, kind: str) -> None:
        """Refuse what a file of that kind takes no notice of."""
        if kind == "ply":
            self._refuse("texture_size", "a ply has no texture. Leave it out, or write a glb")
            self._refuse("material", "a ply has no material. Leave it out, or write a glb")
        elif self.colours == "vertices":
            self._refuse("texture_size", "colours is vertices. Leave one of them out")
            if kind == "obj":
                reason = "an obj has a material only with a texture. Leave it out, or write a glb"
                self._refuse("material", reason)

    def _refuse(self, name: str, reason: str) -> None:
        """Unless it is as usual."""
        if self.is_changed(name):
            raise ConfigError(f"{name} is {getattr(self, name)}, but {reason}.")
