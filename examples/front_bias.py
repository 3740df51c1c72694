"""Every view becomes the front: the failure that this project is about, in about a minute.

The world is a ball with a pale face, an ear on each side and a blue patch on its back. The prior
has memorised 600 pictures of it, and as on the web most of them are taken from the front: 70 %
front, 20 % sides, 10 % back. It is exact: no network, no training error. SDS moves a voxel grid of
40³ by this prior's score, from cameras all around. What comes out has a face on every side.

    python examples/front_bias.py [--output FOLDER] [--steps N] [--seed N]

writes front_bias.png (top row: the true object, bottom row: what SDS made) and says how many of 24
views around the object look most like the front.
"""

import argparse
from math import pi, radians
from pathlib import Path
from time import perf_counter

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from sd_core.baselines.sds import SDS, SDSOptions
from sd_core.camera_sampling import CameraOptions, sample_cameras
from sd_core.cameras import CameraBatch, orbit_cameras, rays, turntable
from sd_core.distill import distill
from sd_core.guidance import GuidanceContext
from sd_core.pictures import contact_sheet, enlarge, save_png
from sd_core.priors.image_bank import ImageBankPrior
from sd_core.prompts import PromptOptions
from sd_core.renderer import AbstractRenderer, Rendering

PIXELS = 32
DISTANCE = 2.0
FIELD_OF_VIEW_DEG = 40.0
RADIUS, KNOB_RADIUS = 0.5, 0.1

# How often the pictures of this world are taken from where.
FRONT_SHARE, SIDE_SHARE, BACK_SHARE = 0.7, 0.2, 0.1
FRONT_SPREAD = 0.35  # standard deviation of the azimuth, in radians
PICTURES = 600

BROWN, DARK_BROWN, CREAM = (0.75, 0.48, 0.16), (0.45, 0.26, 0.08), (0.95, 0.85, 0.65)
BLACK, RED, BLUE = (0.05, 0.05, 0.05), (0.8, 0.1, 0.15), (0.15, 0.3, 0.8)


def cameras_at(azimuth: Float[Tensor, " batch"]) -> CameraBatch:
    """Cameras on the equator."""
    return orbit_cameras(
        azimuth=azimuth,
        elevation=torch.zeros_like(azimuth),
        distance=torch.full_like(azimuth, DISTANCE),
        vertical_fov=torch.full_like(azimuth, radians(FIELD_OF_VIEW_DEG)),
    )


def true_pictures(cameras: CameraBatch, pixels: int = PIXELS) -> Float[Tensor, "batch 3 h w"]:
    """The world itself: spheres ray traced at twice the size and averaged down."""
    origins, directions = rays(cameras, 2 * pixels, 2 * pixels)
    picture = torch.ones_like(directions)
    nearest = torch.full_like(directions[..., :1], torch.inf)
    for height, radius in ((0.0, RADIUS), (RADIUS + 0.04, KNOB_RADIUS)):
        offset = origins - torch.tensor([0.0, 0.0, height])
        half_b = (offset * directions).sum(-1, keepdim=True)
        c = offset.square().sum(-1, keepdim=True) - radius**2
        discriminant = half_b.square() - c
        depth = -half_b - discriminant.clamp_min(0).sqrt()
        normal = (offset + depth * directions) / radius
        colour = _body_colour(normal) if radius == RADIUS else torch.tensor(DARK_BROWN)
        shade = 0.8 + 0.2 * normal[..., 2:]  # light from above, the same from every camera
        hit = (discriminant > 0) & (depth < nearest)
        picture = torch.where(hit, colour * shade, picture)
        nearest = torch.where(hit, depth, nearest)
    return F.avg_pool2d(picture.permute(0, 3, 1, 2), 2)


def _body_colour(normal: Tensor) -> Tensor:
    """A pale face around +x, an ear on each side, a patch around -x, brown between them.

    The face is what the average picture resembles. With a plain side and a face full of contrast
    the *side* would win: SDS goes to whatever is nearest to the picture that all views agree on.
    """
    azimuth = torch.atan2(normal[..., 1], normal[..., 0])
    elevation = normal[..., 2].clamp(-1, 1).asin()
    eyes = torch.hypot(azimuth.abs() - 0.4, elevation - 0.2) < 0.16
    mouth = (azimuth.abs() < 0.6) & ((elevation + 0.45).abs() < 0.12)
    colour = torch.tensor(BROWN).expand_as(normal)
    for where, paint in (
        (normal[..., 0] > 0.3, CREAM),
        (mouth, RED),
        (eyes, BLACK),
        (normal[..., 1].abs() > 0.85, BLACK),
        (normal[..., 0] < -0.75, BLUE),
    ):
        colour = torch.where(where.unsqueeze(-1), torch.tensor(paint), colour)
    return colour


def biased_azimuths(generator: Generator) -> Tensor:
    """Where photographers stand in this world."""
    counts = [round(PICTURES * share) for share in (FRONT_SHARE, SIDE_SHARE / 2, SIDE_SHARE / 2)]
    counts.append(PICTURES - sum(counts))
    centres = torch.tensor([0.0, pi / 2, -pi / 2, pi]).repeat_interleave(torch.tensor(counts))
    return centres + FRONT_SPREAD * torch.randn(PICTURES, generator=generator)


class VoxelGrid(AbstractRenderer):
    """Density and colour on a cube [-0.7, 0.7]³ of voxels, drawn by marching along the rays."""

    extent = 0.7

    def __init__(self, size: int, samples: int) -> None:
        super().__init__()
        self.samples = samples
        line = torch.linspace(-self.extent, self.extent, size)
        z, y, x = torch.meshgrid(line, line, line, indexing="ij")
        ball = 10 * (0.45 - (x**2 + y**2 + z**2).sqrt())  # a soft ball to begin with
        self.density = nn.Parameter(ball[None, None])
        self.colour = nn.Parameter(torch.zeros(1, 3, size, size, size))

    def forward(self, cameras: CameraBatch) -> Rendering:
        origins, directions = rays(cameras, PIXELS, PIXELS)
        steps = (torch.arange(self.samples) + 0.5) / self.samples
        depths = DISTANCE - self.extent + 2 * self.extent * steps
        points = origins.unsqueeze(-2) + depths[:, None] * directions.unsqueeze(-2)
        where = points.view(1, -1, 1, 1, 3) / self.extent
        both = F.grid_sample(torch.cat([self.density, self.colour], 1), where, align_corners=True)
        both = both.view(4, *points.shape[:-1])
        inside = (points.abs() < self.extent).all(-1)
        thickness = 2 * self.extent / self.samples
        alpha = (1 - torch.exp(-10 * F.softplus(both[0]) * thickness)) * inside
        clear = torch.cumprod(1 - alpha + 1e-7, dim=-1)
        seen = alpha * torch.cat([torch.ones_like(clear[..., :1]), clear[..., :-1]], dim=-1)
        opacity = seen.sum(-1)
        colour = (seen * both[1:].sigmoid()).sum(-1) + (1 - opacity)  # on white
        return Rendering(images=colour.transpose(0, 1), opacity=opacity.unsqueeze(1))


def views_like_the_front(renderer: VoxelGrid) -> int:
    """Of 24 views around, how many are nearest to a true picture within 45° of the front."""
    poses = torch.arange(-180, 180, 5) * pi / 180
    truth = true_pictures(cameras_at(poses)).flatten(1)
    with torch.no_grad():
        views = renderer(cameras_at(turntable(24).azimuth)).images.flatten(1)
    best = poses[torch.cdist(views, truth).argmin(1)]
    return int((best.abs() < pi / 4).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description="SDS under a front-heavy prior")
    parser.add_argument("--output", type=Path, default=Path("runs/front_bias"))
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parsed = parser.parse_args()
    parsed.output.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # two threads that share a busy machine are slower than one

    generator = Generator().manual_seed(parsed.seed)
    prior = ImageBankPrior(true_pictures(cameras_at(biased_azimuths(generator))))
    prompt = PromptOptions(text="a ball with a face", views="none")
    guidance = SDS(SDSOptions(scale=1.0), GuidanceContext(prior, prompt, lambda name, _: guidance))
    renderer = VoxelGrid(size=40, samples=40)
    around = CameraOptions(
        batch=4,
        elevation_deg=(0.0, 0.0),
        distance=(DISTANCE, DISTANCE),
        vertical_fov_deg=(FIELD_OF_VIEW_DEG, FIELD_OF_VIEW_DEG),
    )
    began = perf_counter()
    for report in distill(
        renderer=renderer,
        prior=prior,
        guidance=guidance,
        sample_cameras=lambda generator: sample_cameras(around, generator),
        optimiser=torch.optim.Adam(renderer.parameters(), lr=0.03),
        generator=generator,
        steps=range(parsed.steps),
    ):
        if report.step.index % 200 == 0:
            print(f"step {report.step.index}, {perf_counter() - began:.0f} s")
    print(f"{views_like_the_front(renderer)} of 24 views around look most like the front")

    azimuths = turntable(8).azimuth
    made = renderer.preview(cameras_at(azimuths)).images
    rows = torch.cat([true_pictures(cameras_at(azimuths)), made])
    picture = parsed.output / "front_bias.png"
    save_png(picture, contact_sheet(enlarge(rows, 96), 8))
    print(f"the picture is {picture}")


if __name__ == "__main__":
    main()
