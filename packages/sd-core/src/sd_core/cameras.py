"""Where the cameras stand: the frame, the batch that everyone passes on, rays, evaluation views.

World: right-handed, z up, +x is the front of the object. Azimuth a grows from +x to +y, elevation e
from the horizon to +z, so a camera at distance d stands at d·(cos e cos a, cos e sin a, sin e).
Camera: the columns of `camera_to_world` are right, up, backward, position (OpenGL: it looks along
its own -z). Angles are radians, except where a name ends in `_deg`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from sd_core.shapes import PerSample

Vectors = Float[Tensor, "batch 3"]
Poses = Float[Tensor, "batch 4 4"]

# Below this sine of the angle between them, `up` no longer says which way a camera is rolled.
_PARALLEL = 1e-6


@dataclass(frozen=True, eq=False)
class CameraBatch:
    """A batch of perspective cameras with square pixels, and the light that shines at each view.

    Azimuth, elevation and distance are labels: they name the orbit point that was asked for, and
    jitter moves `camera_to_world` away from it. Azimuth is any real number: compare it modulo 2π.
    """

    camera_to_world: Poses
    vertical_fov: PerSample
    azimuth: PerSample
    elevation: PerSample
    distance: PerSample
    light_position: Vectors

    def __len__(self) -> int:
        return self.camera_to_world.shape[0]

    @property
    def position(self) -> Vectors:
        """Where the cameras really stand, jitter included."""
        return self.camera_to_world[:, :3, 3]

    @property
    def direction(self) -> Vectors:
        """Unit vectors from the origin to the cameras, from the labels: jitter left out."""
        return orbit_direction(self.azimuth, self.elevation)

    def select(self, index: Tensor | Sequence[int] | slice) -> "CameraBatch":
        """Some of the cameras, or all in another order."""
        chosen = list(index) if isinstance(index, Sequence) else index
        return CameraBatch(*(values[chosen] for values in self._tensors()))

    def repeat(self, count: int) -> "CameraBatch":
        """The whole batch `count` times over: cameras 0 1 0 1, not 0 0 1 1."""
        return CameraBatch(*(torch.cat([values] * count) for values in self._tensors()))

    def to(self, device: torch.device | str) -> "CameraBatch":
        """The same cameras on another device."""
        return CameraBatch(*(values.to(device) for values in self._tensors()))

    @staticmethod
    def concatenate(batches: Sequence["CameraBatch"]) -> "CameraBatch":
        """The cameras of all batches, one batch after the other."""
        columns = zip(*(batch._tensors() for batch in batches), strict=True)
        return CameraBatch(*(torch.cat(column) for column in columns))

    def _tensors(self) -> list[Tensor]:
        return [getattr(self, field.name) for field in fields(self)]


def orbit_direction(azimuth: PerSample, elevation: PerSample) -> Vectors:
    """(cos e cos a, cos e sin a, sin e), the unit vector from the origin to a camera."""
    flat = elevation.cos()
    return torch.stack([flat * azimuth.cos(), flat * azimuth.sin(), elevation.sin()], dim=-1)


def look_at(position: Vectors, target: Vectors, up: Vectors) -> Poses:
    """Camera-to-world poses that look from `position` to `target` with `up` upright in the picture.

    backward = (position - target)/‖·‖, right = up × backward/‖·‖, up' = backward × right.
    Straight above or below, where `up` says nothing, the picture is rolled as it would be on the
    way to the pole at azimuth 0.
    """
    if bool((position == target).all(dim=-1).any()):
        raise ValueError("look_at: a camera stands on its own target, so it has no direction")
    backward = normalize(position - target, dim=-1)
    up = normalize(up, dim=-1)
    right = torch.linalg.cross(up, backward)
    side = (up * backward).sum(dim=-1, keepdim=True).sign()
    at_pole = torch.linalg.cross(-side * _least_aligned_axis(up), backward)
    parallel = right.norm(dim=-1, keepdim=True) < _PARALLEL
    right = normalize(torch.where(parallel, at_pole, right), dim=-1)
    return _pose(right, torch.linalg.cross(backward, right), backward, position)


def orbit_cameras(
    *, azimuth: PerSample, elevation: PerSample, distance: PerSample, vertical_fov: PerSample
) -> CameraBatch:
    """Cameras on the orbit that look at the origin, each with its light where it stands.

    right = (-sin a, cos a, 0), up = (-sin e cos a, -sin e sin a, cos e): exact at the poles too,
    where azimuth alone says how the picture is rolled.
    """
    direction = orbit_direction(azimuth, elevation)
    steep, flat = elevation.sin(), elevation.cos()
    right = torch.stack([-azimuth.sin(), azimuth.cos(), torch.zeros_like(azimuth)], dim=-1)
    up = torch.stack([-steep * azimuth.cos(), -steep * azimuth.sin(), flat], dim=-1)
    position = distance[:, None] * direction
    return CameraBatch(
        camera_to_world=_pose(right, up, direction, position),
        vertical_fov=vertical_fov,
        azimuth=azimuth,
        elevation=elevation,
        distance=distance,
        light_position=position,
    )


def rays(
    cameras: CameraBatch, height: int, width: int
) -> tuple[Float[Tensor, "batch height width 3"], Float[Tensor, "batch height width 3"]]:
    """Origins and unit directions of the rays through the pixel centres; row 0 is the top.

    In the camera: ((j + 1/2 - width/2)/f, -(i + 1/2 - height/2)/f, -1) with f = height/2/tan(fov/2)
    pixels, for row i and column j.
    """
    pose = cameras.camera_to_world
    row = torch.arange(height, dtype=pose.dtype, device=pose.device) + 0.5 - height / 2
    column = torch.arange(width, dtype=pose.dtype, device=pose.device) + 0.5 - width / 2
    down, along = torch.meshgrid(row, column, indexing="ij")
    pixel = 2 * (cameras.vertical_fov / 2).tan()[:, None, None] / height
    in_camera = torch.stack([pixel * along, -pixel * down, -torch.ones_like(pixel * down)], dim=-1)
    directions = torch.einsum("bij,bhwj->bhwi", pose[:, :3, :3], normalize(in_camera, dim=-1))
    return cameras.position[:, None, None].expand_as(directions), directions


def fitting_distance(vertical_fov_deg: float, *, radius: float = 1.0) -> float:
    """How far a camera must stand to see the whole ball |x| <= radius: d = radius/sin(fov/2).

    The outermost rays then touch the ball. For pictures at least as wide as they are high.
    """
    return radius / math.sin(math.radians(vertical_fov_deg) / 2)


def turntable(
    count: int,
    *,
    elevation_deg: float = 15.0,
    distance: float | None = None,
    vertical_fov_deg: float = 40.0,
) -> CameraBatch:
    """`count` cameras once around the object in equal steps, from the front; azimuth i·360°/count.

    Distance None stands where the unit ball just fits (`fitting_distance`), here and below.
    """
    azimuth = math.tau * torch.arange(count, dtype=torch.float64) / count
    elevation = torch.full_like(azimuth, math.radians(elevation_deg))
    return _evaluation_cameras(azimuth, elevation, distance, vertical_fov_deg)


def sheet_cameras(
    *,
    elevations_deg: Sequence[float] = (45.0, 15.0, -15.0),
    distance: float | None = None,
    vertical_fov_deg: float = 40.0,
) -> CameraBatch:
    """A sheet of views, row by row: a row for each elevation, a column for azimuth 0, 90, 180, 270.

    The columns show the front, then the sides at the front viewer's right, behind and left.
    """
    rows = torch.tensor(elevations_deg, dtype=torch.float64).deg2rad()
    columns = torch.arange(4, dtype=torch.float64) * (math.pi / 2)
    return _evaluation_cameras(
        columns.repeat(len(rows)), rows.repeat_interleave(4), distance, vertical_fov_deg
    )


def icosphere_cameras(
    subdivisions: int = 2, *, distance: float | None = None, vertical_fov_deg: float = 40.0
) -> CameraBatch:
    """Nearly even views from all around: 10·4^n + 2 of them, 162 for n = 2; see `icosphere`."""
    x, y, z = icosphere(subdivisions).unbind(dim=-1)
    elevation = torch.atan2(z, torch.hypot(x, y))
    return _evaluation_cameras(torch.atan2(y, x), elevation, distance, vertical_fov_deg)


def icosphere(subdivisions: int) -> Float[Tensor, "vertices 3"]:
    """Unit vertices of an icosahedron whose faces were split in four `subdivisions` times; float64.

    They come sorted by x, then y, then z.
    """
    golden = (1 + math.sqrt(5)) / 2
    edge = torch.tensor([[0, s, t * golden] for s in (1, -1) for t in (1, -1)], dtype=torch.float64)
    corners = torch.cat([edge, edge.roll(1, dims=1), edge.roll(2, dims=1)])
    triples = corners[torch.combinations(torch.arange(12), 3)]
    sides = (triples - triples.roll(1, dims=1)).norm(dim=-1)
    faces = normalize(triples[(sides < 2.1).all(dim=1)], dim=-1)  # an edge has length 2
    for _ in range(subdivisions):
        middles = normalize(faces + faces.roll(1, dims=1), dim=-1)  # of edges 02, 10, 21
        tips = torch.stack([faces, middles, middles.roll(-1, dims=1)], dim=2)
        faces = torch.cat([tips.flatten(0, 1), middles])
    everywhere = faces.flatten(0, 1) + 0.0  # + 0.0 makes -0.0 and 0.0 one vertex
    vertices: Tensor = torch.unique(everywhere, dim=0)
    return vertices


def _evaluation_cameras(
    azimuth: PerSample, elevation: PerSample, distance: float | None, vertical_fov_deg: float
) -> CameraBatch:
    """Orbit cameras of one distance and field of view, in torch's default precision."""
    if distance is None:
        distance = fitting_distance(vertical_fov_deg)
    precision = torch.get_default_dtype()
    return orbit_cameras(
        azimuth=azimuth.to(precision),
        elevation=elevation.to(precision),
        distance=torch.full_like(azimuth, distance, dtype=precision),
        vertical_fov=torch.full_like(azimuth, math.radians(vertical_fov_deg), dtype=precision),
    )


def _least_aligned_axis(vectors: Vectors) -> Vectors:
    """The x, y or z axis that is furthest from each vector's line; x for the z axis."""
    return torch.eye(3, dtype=vectors.dtype, device=vectors.device)[vectors.abs().argmin(dim=-1)]


def _pose(right: Vectors, up: Vectors, backward: Vectors, position: Vectors) -> Poses:
    top = torch.stack([right, up, backward, position], dim=-1)
    bottom = top.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(len(top), 1, 4)
    return torch.cat([top, bottom], dim=1)
