"""One face, where every other method makes several: a rectified target and an entropic source.

The world is a ball with two eyes, a mouth, a blue patch on its back and a knob on top. The prior
has memorised 600 pictures of it, 70 % from around the front, 20 % from the sides, 10 % from the
back. one_face.toml takes USD's target, in which every pose is equally likely, and ESD's source,
which keeps the views apart; docs/janus.md says why both are needed.

    python examples/one_face.py [--output FOLDER] [--steps N] [--seed N] [--guidance sds]

writes the pictures, runs the experiment on them (some minutes), says how the views are distributed,
and writes one_face.png: the true object above, what was made below.
"""

import argparse
import json
from dataclasses import dataclass
from math import cos, pi, radians, sin
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor
from torch.nn import functional as F

from sd_core.atomic import new_folder
from sd_core.cameras import CameraBatch, orbit_cameras, rays, turntable
from sd_core.cli import main as score_distill
from sd_core.experiment import Experiment
from sd_core.pictures import contact_sheet, save_png
from sd_core.plugins import load_plugins
from sd_core.run_folder import RunFolder
from sd_core.saved_scene import load_scene
from sd_core.shapes import Images

EXPERIMENT = Path(__file__).with_suffix(".toml")

PIXELS = 32
DISTANCE = 2.5
FIELD_OF_VIEW_DEG = 40.0

# How often the pictures of this world are taken from where.
PROMPT = "a ball with a face"
SHARES = {"front": 0.7, "left": 0.1, "back": 0.1, "right": 0.1}
FRONT_SPREAD = 0.35  # standard deviation of the azimuth around the front, in radians
PICTURES = 600
VIEWS = 24  # around an object, to measure it

BROWN, DARK, WHITE = (0.75, 0.48, 0.16), (0.45, 0.26, 0.08), (0.95, 0.95, 0.95)
BLACK, RED, BLUE = (0.05, 0.05, 0.05), (0.85, 0.1, 0.15), (0.15, 0.3, 0.8)


@dataclass(frozen=True)
class Ball:
    """An ellipsoid: where, its half axes along x, y and z, and its colour."""

    centre: tuple[float, float, float]
    radii: tuple[float, float, float]
    colour: tuple[float, float, float]


def _on_body(azimuth_deg: float, elevation_deg: float, out: float) -> tuple[float, float, float]:
    a, e = radians(azimuth_deg), radians(elevation_deg)
    return (out * cos(a) * cos(e), out * sin(a) * cos(e), out * sin(e))


BALLS = (
    Ball((0, 0, 0), (0.5, 0.5, 0.5), BROWN),
    Ball((0, 0, 0.54), (0.1, 0.1, 0.1), DARK),
    *(Ball(_on_body(side * 22, 17, 0.45), (0.16, 0.16, 0.16), WHITE) for side in (1, -1)),
    *(Ball(_on_body(side * 22, 17, 0.57), (0.08, 0.08, 0.08), BLACK) for side in (1, -1)),
    Ball(_on_body(0, -38, 0.42), (0.14, 0.28, 0.1), RED),
    Ball((-0.17, 0, 0), (0.36, 0.4, 0.4), BLUE),
)


def cameras_at(azimuth: Float[Tensor, " batch"]) -> CameraBatch:
    """Cameras on the equator."""
    return orbit_cameras(
        azimuth=azimuth,
        elevation=torch.zeros_like(azimuth),
        distance=torch.full_like(azimuth, DISTANCE),
        vertical_fov=torch.full_like(azimuth, radians(FIELD_OF_VIEW_DEG)),
    )


def true_pictures(cameras: CameraBatch, pixels: int = PIXELS) -> Float[Tensor, "batch 3 h w"]:
    """The world itself: balls ray traced at twice the size and averaged down."""
    origins, directions = rays(cameras, 2 * pixels, 2 * pixels)
    picture = torch.ones_like(directions)
    nearest = torch.full_like(directions[..., :1], torch.inf)
    for ball in BALLS:
        radii = torch.tensor(ball.radii)
        start, along = (origins - torch.tensor(ball.centre)) / radii, directions / radii
        a, half_b = along.square().sum(-1, keepdim=True), (start * along).sum(-1, keepdim=True)
        under_root = half_b.square() - a * (start.square().sum(-1, keepdim=True) - 1)
        depth = (-half_b - under_root.clamp_min(0).sqrt()) / a
        up = ((start + depth * along) / radii)[..., 2:]
        up = up / ((start + depth * along) / radii).norm(dim=-1, keepdim=True)
        colour = torch.tensor(ball.colour) * (0.85 + 0.15 * up)  # light from above
        hit = (under_root > 0) & (depth < nearest)
        picture = torch.where(hit, colour, picture)
        nearest = torch.where(hit, depth, nearest)
    return F.avg_pool2d(picture.permute(0, 3, 1, 2), 2)


def biased_azimuths(generator: Generator) -> Tensor:
    """Where photographers stand: in front of the face, else anywhere within their quarter."""
    counts = [round(PICTURES * share) for share in SHARES.values()]
    front = FRONT_SPREAD * torch.randn(counts[0], generator=generator)
    others = [
        (place + torch.rand(count, generator=generator) - 0.5) * pi / 2
        for place, count in enumerate(counts[1:], start=1)
    ]
    return torch.cat([front, *others])


def quarter_of(azimuth: Float[Tensor, " batch"]) -> Int[Tensor, " batch"]:
    """0 to 3: which of the names in SHARES an azimuth belongs to."""
    return ((azimuth + pi / 4) % (2 * pi) // (pi / 2)).long()


def write_pictures(folder: Path) -> None:
    """What the prior has seen, with captions, as `image-bank` reads them; once."""
    if folder.is_dir():
        return
    azimuths = biased_azimuths(Generator().manual_seed(0))
    pictures = true_pictures(cameras_at(azimuths))
    captions = {}
    with new_folder(folder) as aside:
        for index, quarter in enumerate(quarter_of(azimuths).tolist()):
            name = f"{index:03d}.png"
            save_png(aside / name, pictures[index : index + 1])
            captions[name] = [PROMPT, f"{PROMPT}, {list(SHARES)[quarter]} view"]
        (aside / "captions.json").write_text(json.dumps(captions, indent=1), "utf-8")


@dataclass(frozen=True)
class Measured:
    """How the views around an object look: shares of the quarters, and what follows from them."""

    shares: tuple[float, ...]
    entropy: float  # of the shares, in nats; ln 4 = 1.386 for a true object
    consistency: float  # of the looks with the cameras, up to a turn and a mirror; 1 if true


def measure(views: Images) -> Measured:
    """Of views all around: each looks like the true picture that is nearest to it.

    consistency = max over ± of |mean_i exp(j·(look_i ± azimuth_i))|.
    """
    poses = torch.arange(-180, 180, 5) * pi / 180
    truth = true_pictures(cameras_at(poses), views.shape[-1]).flatten(1)
    looks = poses[torch.cdist(views.flatten(1), truth).argmin(1)]
    shares = torch.bincount(quarter_of(looks), minlength=4) / len(looks)
    around = turntable(len(views)).azimuth
    agreement = [torch.exp(1j * (looks + sign * around)).mean().abs().item() for sign in (1, -1)]
    return Measured(tuple(shares.tolist()), float(torch.special.entr(shares).sum()), max(agreement))


def views_of(run: Path, count: int) -> Images:
    """Around the object of a run folder."""
    folder, table = RunFolder.open(run)
    scene = load_scene(folder, Experiment(table, load_plugins()), device=torch.device("cpu"))
    return scene.renderer.preview(cameras_at(turntable(count).azimuth)).images.clamp(0, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description="One face in a front-heavy world")
    parser.add_argument("--output", type=Path, default=Path("runs/one_face"))
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--guidance", help="another method, with its own options by default")
    parsed = parser.parse_args()
    write_pictures(parsed.output / "pictures")

    run = parsed.output / f"{parsed.guidance or 'mix'}-{parsed.seed}"
    other = ["--guidance", parsed.guidance] if parsed.guidance else []
    told = [f"steps={parsed.steps}", f"prior.folder={parsed.output / 'pictures'}", "run.threads=1"]
    told.append("run.turntable_frames=0")
    settings = [word for each in told for word in ("--set", each)]
    seed = ["--seed", str(parsed.seed)]
    if score_distill(["run", str(EXPERIMENT), *other, *seed, *settings, "--output", str(run)]):
        raise SystemExit(2)
    found = measure(views_of(run, VIEWS))
    shares = ", ".join(f"{s:.0%} {name}" for s, name in zip(found.shares, SHARES, strict=True))
    print(f"{shares}; entropy {found.entropy:.3f}, consistency {found.consistency:.3f}")

    made = views_of(run, 8)
    true = true_pictures(cameras_at(turntable(8).azimuth), made.shape[-1])
    picture = parsed.output / "one_face.png"
    save_png(picture, contact_sheet(torch.cat([true, made]), 8))
    print(f"the picture is {picture}")


if __name__ == "__main__":
    main()
