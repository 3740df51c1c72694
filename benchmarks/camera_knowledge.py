"""What a LoRA learns of the camera in so many updates: ESD's and VSD's estimator on a true toy.

The views of one toy, from the cameras that a run draws, are all that the estimator has to know. It
is asked with the camera and without; where both err alike, it has not learned where it looks from.
"""

from typing import Any, Final

import torch
from _methods import EVERYWHERE
from _report import machine, write_section
from torch import Generator, Tensor

from sd_core.building import build_prior
from sd_core.camera_sampling import CameraOptions, sample_cameras
from sd_core.cameras import CameraBatch
from sd_core.estimator import AbstractNoiseEstimator, EstimatorOptions
from sd_core.experiment import Experiment
from sd_core.noising import draw
from sd_core.plugins import load_plugins
from sd_core.prior import AbstractPrior
from sd_core.step import Step
from sd_core.tables import markdown
from sd_toybox.world.pictures import world_pictures

PROMPT, KIND, COLOUR = "a red bear", "bear", "red"
UPDATES: Final = (0, 100, 300, 600)
RANGES: Final = ((20, 200), (200, 500), (500, 980))
TESTED: Final = 16  # batches of views that training does not see
LEARNERS: dict[str, tuple[dict[str, Any], float]] = {
    "attention, rank 4, 1e-4 (default)": ({}, 1e-4),
    "attention, rank 4, 1e-3": ({}, 1e-3),
    "all layers, rank 16, 1e-3": ({"targets": list(EVERYWHERE), "rank": 16}, 1e-3),
}


class Views:
    """Latents of the toy's views, and their cameras."""

    def __init__(self, prior: AbstractPrior, cameras: CameraOptions, seed: int) -> None:
        self.prior, self.cameras = prior, cameras
        self.generator = Generator().manual_seed(seed)

    def draw(self) -> tuple[Tensor, CameraBatch]:
        cameras = sample_cameras(self.cameras, self.generator)
        with torch.no_grad():
            return self.prior.encode(world_pictures(KIND, COLOUR, cameras, 64)), cameras


def errors(
    prior: AbstractPrior, estimator: AbstractNoiseEstimator, cameras: CameraOptions
) -> list[str]:
    """Mean squared error of ε with the camera / without, for each range of t."""
    told = []
    for low, high in RANGES:
        views, generator = Views(prior, cameras, seed=1), Generator().manual_seed(2)
        seen: list[list[Tensor]] = [[], []]
        for _ in range(TESTED):
            latents, where = views.draw()
            t = torch.randint(low, high, (len(latents),), generator=generator)
            noised = draw(prior.schedule, latents, t, generator)
            text = prior.encode_text([PROMPT] * len(latents))
            with torch.no_grad():
                pair = estimator.predict_noise_pair(noised, text, where, generator=generator)
            for place, noise in enumerate((pair.at_camera, pair.camera_free)):
                seen[place].append((noise - noised.noise).square().mean())
        with_camera, without = (float(torch.stack(each).mean()) for each in seen)
        told.append(f"{with_camera:.4f} / {without:.4f}")
    return told


def rows(name: str) -> list[list[str]]:
    lora, learning_rate = LEARNERS[name]
    table = {
        "prompt": {"text": PROMPT, "views": "none"},
        "prior": {"name": "toybox", "estimator": lora},
        "stages": [{"guidance": {"name": "esd"}}],
    }
    experiment = Experiment(table, load_plugins())
    prior, cameras = build_prior(experiment), experiment.stages[0].cameras
    options = EstimatorOptions(learning_rate=learning_rate, camera_dropout=0.5, shared_noise=True)
    torch.manual_seed(0)  # the adapter's first weights
    estimator = prior.new_estimator(view_conditioned=True, options=options)
    views, generator = Views(prior, cameras, seed=0), Generator().manual_seed(0)
    found = []
    for update in range(UPDATES[-1] + 1):
        if update in UPDATES:
            found.append([name, str(update), *errors(prior, estimator, cameras)])
        latents, where = views.draw()
        t = torch.randint(20, 980, (len(latents),), generator=generator)
        estimator.fit(
            draw(prior.schedule, latents, t, generator),
            prior.encode_text([PROMPT] * len(latents)),
            where,
            predicted=None,
            step=Step(update, UPDATES[-1] + 1),
            generator=generator,
        )
    return found


def main() -> None:
    torch.set_num_threads(1)
    header = ["LoRA", "updates of 4 views", *(f"t in {low} to {high}" for low, high in RANGES)]
    table = markdown(header, [row for name in LEARNERS for row in rows(name)])
    write_section(
        "camera-knowledge",
        f"""## What a LoRA learns of the camera

Error of ε on new views of a true toy, told the camera / not told, after so many updates on views
of the same toy. One seed.

{table}

{machine("sd-core", "sd-toybox", "torch", "diffusers", "peft")}.
`nox -s benchmarks -- camera_knowledge`
""",
    )


if __name__ == "__main__":
    main()
