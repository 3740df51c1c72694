"""One face by the toybox's network, on some seeds: USD's target, ESD's source, four true views.

    python examples/one_bear.py [--output FOLDER] [--steps N] [--seed N]

draws the four sides of a red bear for USD's classifier, runs one_bear.toml on them (ten minutes),
says how many faces the bear has, and writes one_bear.png: the true bear above, what was made below.
"""

import argparse
from pathlib import Path

import torch

from sd_core.atomic import new_folder
from sd_core.cameras import CameraBatch, turntable
from sd_core.cli import main as score_distill
from sd_core.experiment import Experiment
from sd_core.pictures import contact_sheet, save_png
from sd_core.plugins import load_plugins
from sd_core.run_folder import RunFolder
from sd_core.saved_scene import load_scene
from sd_core.shapes import Images
from sd_toybox.world.pictures import world_pictures
from sd_toybox.world.poses import POSES

EXPERIMENT = Path(__file__).with_suffix(".toml")
TOY = ("bear", "red")
VIEWS = 8  # around the bear


def around(views: int) -> CameraBatch:
    """The front first, from a little above."""
    return turntable(views, elevation_deg=10.0, distance=2.0, vertical_fov_deg=40.0)


def write_templates(folder: Path) -> None:
    """A true view of each side; once."""
    if folder.is_dir():
        return
    with new_folder(folder) as aside:
        sides = world_pictures(*TOY, around(len(POSES)))
        for pose, picture in zip(POSES, sides, strict=True):
            save_png(aside / f"{pose}.png", picture[None])


def true_and_made(run: Path) -> Images:
    """Views around the true bear and, from the same cameras, around what was made."""
    folder, table = RunFolder.open(run)
    scene = load_scene(folder, Experiment(table, load_plugins()), device=torch.device("cpu"))
    made = scene.renderer.preview(around(VIEWS)).images.clamp(0, 1)
    return torch.cat([world_pictures(*TOY, around(VIEWS), made.shape[-1]), made])


def main() -> None:
    parser = argparse.ArgumentParser(description="One face by the toybox's network")
    parser.add_argument("--output", type=Path, default=Path("runs/one_bear"))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parsed = parser.parse_args()
    templates, run = parsed.output / "templates", parsed.output / f"seed-{parsed.seed}"
    write_templates(templates)
    told = [f"guidance.options.usd.classifier.templates={templates}"]
    told += [f"steps={parsed.steps}", "run.threads=1", "run.turntable_frames=0"]
    settings = [word for each in told for word in ("--set", each)]
    seed = ["--seed", str(parsed.seed)]
    if score_distill(["run", str(EXPERIMENT), *seed, *settings, "--output", str(run)]):
        raise SystemExit(2)
    score_distill(["evaluate", str(run), "--metrics", "janus-faces,pose-consistency"])
    picture = parsed.output / "one_bear.png"
    save_png(picture, contact_sheet(true_and_made(run), VIEWS))
    print(f"the picture is {picture}")


if __name__ == "__main__":
    main()
