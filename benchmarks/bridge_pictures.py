"""The bridge's tables 1 and 3 on the toybox: one picture for each caption, by each method.

    python benchmarks/bridge_pictures.py [--captions 16] [--steps 300] [--at-once 2] [--show-only]

A latent picture begins as noise and is optimised; DDIM samples of the same model are the lower
bound. FID and CLIP-FID against the world's own renders of the same captions. Every picture is kept
under runs/bridge_pictures, so it may be stopped and started at any time.
"""

import argparse
import json
import os
import statistics
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import torch
from _report import machine, write_section
from jaxtyping import Float
from PIL import Image
from torch import Generator, Tensor

from sd_core.atomic import write_text
from sd_core.building import build_prior, build_stage
from sd_core.cameras import turntable
from sd_core.experiment import Experiment
from sd_core.pictures import contact_sheet, save_png
from sd_core.plugins import load_plugins
from sd_core.prior import PriorContext
from sd_core.sampling import ddim_sample
from sd_core.shapes import Images
from sd_core.show import look
from sd_core.tables import markdown
from sd_metrics.frechet import frechet_distance
from sd_metrics.moments import Moments
from sd_toybox.model.clip_reader import ClipReader
from sd_toybox.model.folders import CLIP, shipped_folder
from sd_toybox.model.toybox_prior import ToyboxOptions, build
from sd_toybox.world.kinds import BODY_COLOURS, COLOURS, KINDS, toy
from sd_toybox.world.pictures import draw_toy
from sd_toybox.world.samples import sample_world_cameras

ROOT = Path(__file__).parent.parent
RUNS = ROOT / "runs" / "bridge_pictures"
RESULTS = ROOT / "docs" / "results.md"
RENDERS = 1024  # of the world, what the pictures are compared with
PICTURED = 8

DDIM = "DDIM, 50 steps"
PICTURE = {"preset": "paper-2d"}
FULL = {"start": 0.8}
METHODS: dict[str, dict[str, Any]] = {
    DDIM: {},
    "SDS": {"name": "sds"},
    "bridge": {"name": "bridge", **PICTURE},
    # As the difference of two texts does not vanish at a good picture: for fewer of the steps.
    "bridge, last fifth": {"name": "bridge", **PICTURE, "switch_at": 0.8},
    "bridge, last twentieth": {"name": "bridge", **PICTURE, "switch_at": 0.95},
    "VSD": {"name": "vsd"},
    "full path, null": {"name": "bridge", **PICTURE, "source": "null", "full_path": FULL},
    "full path, text": {"name": "bridge", **PICTURE, "full_path": FULL},
    "full path, learned": {
        "name": "bridge",
        **PICTURE,
        "source": "estimator",
        "bridge_scale": 7.5,
        "bridge_weighting": "sigma-squared",
        "full_path": FULL,
    },
}


@dataclass(frozen=True)
class Job:
    """One picture."""

    method: str
    caption: str
    seed: int
    steps: int

    @property
    def path(self) -> Path:
        name = self.method.replace(" ", "_").replace(",", "")
        return RUNS / f"{self.steps}" / name / f"{self.caption.replace(' ', '_')}-{self.seed}.png"

    @property
    def told(self) -> Path:
        return self.path.with_suffix(".json")


def make(job: Job) -> Job:
    """Makes one picture, unless it is there."""
    if job.told.is_file():
        return job
    torch.set_num_threads(1)
    job.path.parent.mkdir(parents=True, exist_ok=True)
    began = process_time()
    image = sampled(job) if job.method == DDIM else optimised(job)
    seconds = process_time() - began
    save_png(job.path, image)
    told = {"seconds": seconds, "weights": weights(), "method": METHODS[job.method]}
    write_text(job.told, json.dumps(told))
    return job


def weights() -> str:
    """A digest of the model that the pictures are made with."""
    return build(ToyboxOptions(), PriorContext(torch.device("cpu"))).identity()["weights"]


def refuse_others(jobs: Sequence[Job]) -> None:
    """Pictures of another model, or of other options, do not belong in the table."""
    now = weights()
    for job in jobs:
        told = json.loads(job.told.read_text("utf-8"))
        if (told["weights"], told["method"]) != (now, METHODS[job.method]):
            sys.exit(f"{job.path} was made with another model or other options: delete {RUNS}")


def experiment(job: Job) -> Experiment:
    table = {
        "prompt": {"text": job.caption, "views": "none"},
        "seed": job.seed,
        "prior": {"name": "toybox"},
        "stages": [
            {
                "steps": job.steps,
                "guidance": METHODS[job.method] or {"name": "sds"},
                "renderer": {"name": "picture", "space": "latents"},
                "optimiser": {"learning_rate": 0.03},
            }
        ],
    }
    return Experiment(table, load_plugins())


def optimised(job: Job) -> Images:
    checked = experiment(job)
    prior = build_prior(checked)
    stage = build_stage(checked, 0, prior, None)
    for _ in stage.distill(prior):
        pass
    return look(stage.renderer, turntable(1), prior.decode).images


def sampled(job: Job) -> Images:
    prior = build_prior(experiment(job))
    generator = Generator().manual_seed(job.seed * 1000 + _captions(64).index(job.caption))
    noise = torch.randn(1, *prior.latent_shape, generator=generator)
    with torch.no_grad():
        return prior.decode(ddim_sample(prior, noise, [job.caption], scale=7.5, steps=50)).clamp(
            0, 1
        )


def _captions(count: int) -> list[str]:
    """ "a COLOUR KIND", both in turn."""
    pairs = [(kind, COLOURS[(place + turn) % 8]) for turn in range(8)
             for place, kind in enumerate(KINDS)]  # fmt: skip
    return [f"a {colour} {kind}" for kind, colour in pairs[:count]]


def renders(captions: Sequence[str]) -> Images:
    """As the world's photographers would take them, uncorrupted."""
    generator = Generator().manual_seed(0)
    drawn = []
    for caption in captions:
        _, colour, kind = caption.split()
        cameras = sample_world_cameras(RENDERS // len(captions), generator)
        body = torch.tensor(BODY_COLOURS[colour]).expand(len(cameras), 3)
        drawn.append(draw_toy(toy(kind), body, cameras, 64))
    return torch.cat(drawn)


class Features:
    """The toybox's CLIP model: its mean patch for FID, its embedding for CLIP-FID."""

    def __init__(self) -> None:
        self.reader = ClipReader(shipped_folder() / CLIP, torch.device("cpu"))

    @torch.no_grad()
    def of(self, images: Images) -> tuple[Float[Tensor, "b f"], Float[Tensor, "b g"]]:
        clip = self.reader.model
        seen = [clip.vision_model(2 * some - 1) for some in images.split(128)]
        patches = torch.cat([each.last_hidden_state[:, 1:].mean(1) for each in seen])
        pooled = torch.cat([each.pooler_output for each in seen])
        embedding = clip.visual_projection(pooled)
        return patches, embedding / embedding.norm(dim=1, keepdim=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--captions", type=int, default=16)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--at-once", type=int, default=os.cpu_count())
    parser.add_argument("--show-only", action="store_true", help="of what is finished")
    parsed = parser.parse_args()
    captions = _captions(parsed.captions)
    jobs = [Job(name, each, 0, parsed.steps) for each in captions for name in parsed.methods]
    if not parsed.show_only:
        with ProcessPoolExecutor(parsed.at_once, mp_context=get_context("spawn")) as pool:
            for done, job in enumerate(pool.map(make, jobs), start=1):
                print(f"{done}/{len(jobs)} {job.method}, {job.caption}", flush=True)
    finished = [job for job in jobs if job.told.is_file()]
    refuse_others(finished)
    table, sheet = summary(finished, captions)
    save_png(ROOT / "docs" / "images" / "bridge_pictures.png", contact_sheet(sheet, PICTURED))
    write_section("bridge-pictures", table, RESULTS)


def summary(jobs: Sequence[Job], captions: Sequence[str]) -> tuple[str, Images]:
    """The table, and for each method a row of its first pictures."""
    features, real = Features(), renders(captions)
    of_real = [Moments.of(each) for each in features.of(real)]
    rows, shown = [], []
    for method in dict.fromkeys(job.method for job in jobs):
        own = [job for job in jobs if job.method == method]
        made = torch.stack([read(job.path) for job in own])
        shown.append(made[:PICTURED])
        distances = [
            f"{frechet_distance(Moments.of(one), other):.3f} ± {spread_of(one, other):.3f}"
            for one, other in zip(features.of(made), of_real, strict=True)
        ]
        seconds = [json.loads(job.told.read_text("utf-8"))["seconds"] for job in own]
        rows.append([method, str(len(own)), *distances, f"{statistics.median(seconds) / 60:.2f}"])
    header = ["method", "pictures", "FID", "CLIP-FID", "minutes a picture"]
    text = f"""## Toybox, pictures: the bridge's tables 1 and 3

One latent picture for each of {len(captions)} captions, {jobs[0].steps} steps of Adam at 0.03,
against {len(real)} renders.

{markdown(header, rows)}

FID: the toybox's CLIP model's mean patch; CLIP-FID: its embedding. Fréchet distances of so few
pictures are too large, by an amount that differs between methods. ±: standard deviation over 50
draws of the same number of pictures with repetition; the seeds are not in it. Minutes of one
processor.

{machine("sd-core", "sd-toybox", "torch", "diffusers", "peft")}; made by
benchmarks/bridge_pictures.py.

![From above: {", ".join(dict.fromkeys(job.method for job in jobs))}](images/bridge_pictures.png)
"""
    return text, torch.cat(shown)


def read(path: Path) -> Tensor:
    """A picture of 8 bits as [3 h w] in [0, 1]."""
    with Image.open(path) as image:
        return torch.from_numpy(np.array(image.convert("RGB"))).movedim(2, 0).float() / 255


def spread_of(made: Float[Tensor, "b f"], real: Moments) -> float:
    """Standard deviation of the distance over bootstrap draws of what was made."""
    generator = Generator().manual_seed(0)
    draws = [torch.randint(len(made), (len(made),), generator=generator) for _ in range(50)]
    return statistics.stdev(frechet_distance(Moments.of(made[draw]), real) for draw in draws)


if __name__ == "__main__":
    main()
