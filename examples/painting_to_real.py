"""Paintings of toys become pictures of toys (bridge, section 4.3), on the toybox.

    python examples/painting_to_real.py [--output FOLDER] [--steps N]

paints three toys as the toybox's world does, moves each by painting_to_real.toml, and writes
painting_to_real.png: the toys, the paintings, and what became of them. Says how like the true
picture each is before and after: the peak signal-to-noise ratio, in dB. Takes a minute.
"""

import argparse
from dataclasses import dataclass
from math import radians
from pathlib import Path

import torch
from torch import Generator

from sd_core.cameras import orbit_cameras, turntable
from sd_core.cli import main as score_distill
from sd_core.experiment import Experiment
from sd_core.pictures import contact_sheet, save_png
from sd_core.plugins import load_plugins
from sd_core.prior import PriorContext
from sd_core.run_folder import RunFolder
from sd_core.saved_scene import load_scene
from sd_core.shapes import Images
from sd_core.show import look
from sd_toybox.model.toybox_prior import ToyboxOptions, build
from sd_toybox.world.corruptions import painting
from sd_toybox.world.pictures import world_pictures

EXPERIMENT = Path(__file__).with_suffix(".toml")
TOYS = (("bear", "red"), ("robot", "purple"), ("rocket", "pink"))
TURN_DEG, HEIGHT_DEG = 20.0, 10.0
STEPS, PICTURE = 50, "painting_to_real.png"


def true_picture(kind: str, colour: str) -> Images:
    """From a little to the right of the front."""
    place = (radians(TURN_DEG), radians(HEIGHT_DEG), 2.0, radians(40.0))
    azimuth, elevation, distance, field = (torch.tensor([each]) for each in place)
    cameras = orbit_cameras(
        azimuth=azimuth, elevation=elevation, distance=distance, vertical_fov=field
    )
    return world_pictures(kind, colour, cameras)


def made_real(name: str, painted: Images, folder: Path, steps: int) -> Images:
    """The painting after the experiment, by the command."""
    image, run = folder / f"{name}.png", folder / name
    save_png(image, painted)
    told = [f"prompt.text=a {name.replace('_', ' ')}", f"renderer.image={image}", f"steps={steps}"]
    told += ["run.threads=1", "run.turntable_frames=0"]
    settings = [word for each in told for word in ("--set", each)]
    if score_distill(["run", str(EXPERIMENT), *settings, "--output", str(run), "--quiet"]):
        raise SystemExit(2)
    opened, table = RunFolder.open(run)
    cpu = torch.device("cpu")
    scene = load_scene(opened, Experiment(table, load_plugins()), device=cpu)
    prior = build(ToyboxOptions(), PriorContext(cpu))
    return look(scene.renderer, turntable(1), prior.decode).images


def decibels(picture: Images, true: Images) -> float:
    """-10·log10 of the mean squared difference."""
    return -10 * float((picture - true).square().mean().log10())


@dataclass(frozen=True)
class Toy:
    """A toy's true picture, what was painted of it, and that made real: [1, 3, H, W] each."""

    name: str
    true: Images
    painted: Images
    real: Images

    def decibels(self) -> tuple[float, float]:
        """How like the true picture the painting is, and what was made of it."""
        return decibels(self.painted, self.true), decibels(self.real, self.true)


def make_all(output: Path, steps: int = STEPS) -> list[Toy]:
    """Paint every toy, make it real, and lay all out in a picture: true, painted, real."""
    output.mkdir(parents=True, exist_ok=True)
    generator = Generator().manual_seed(0)
    true = [true_picture(kind, colour) for kind, colour in TOYS]
    painted = [painting(picture, torch.ones(1), generator) for picture in true]
    made = []
    for (kind, colour), one, goal in zip(TOYS, painted, true, strict=True):
        real = made_real(f"{colour}_{kind}", one, output, steps)
        made.append(Toy(f"a {colour} {kind}", goal, one, real))
    rows = [getattr(toy, row) for row in ("true", "painted", "real") for toy in made]
    save_png(output / PICTURE, contact_sheet(torch.cat(rows), len(TOYS)))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description="Painting to real, on the toybox")
    parser.add_argument("--output", type=Path, default=Path("runs/painting_to_real"))
    parser.add_argument("--steps", type=int, default=STEPS)
    parsed = parser.parse_args()
    for toy in make_all(parsed.output, parsed.steps):
        before, after = toy.decibels()
        print(f"{toy.name}: {before:.1f} dB as a painting, {after:.1f} dB after")
    print(f"the picture is {parsed.output / PICTURE}")


if __name__ == "__main__":
    main()
