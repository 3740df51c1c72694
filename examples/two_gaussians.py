"""Two Gaussians meet: what SDS and VSD do to a whole distribution, with exact scores on a CPU.

The target is a slanted Gaussian in the plane, the scene x = b + A·c renders one point for each
"camera" c ~ N(0, I) (Wang et al. 2024, ESD, App. B). Both methods find the target's mean, and both
lose its spread: A shrinks to nothing, every view becomes the same view. That is mode collapse, in
the smallest world that has it.

    python examples/two_gaussians.py [--output FOLDER] [--steps N]

writes two_gaussians.png and prints the fitted means and standard deviations. Takes some seconds.
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from torch import Generator, Tensor

from sd_core.building import build_prior, build_stage
from sd_core.camera_sampling import sample_cameras
from sd_core.distill import distill
from sd_core.experiment import Experiment
from sd_core.plugins import load_plugins
from sd_core.priors.gaussian_mixture import GaussianMixturePrior
from sd_core.renderers.affine import Affine

METHODS = {
    "SDS": {"name": "sds", "scale": 1.0},
    "VSD": {"name": "vsd", "scale": 1.0},
}
TARGET = {"mean": [2.0, 1.0], "covariance": [[1.0, 0.8], [0.8, 1.0]]}
POINTS = 1000


def fit(guidance: dict[str, object], steps: int) -> tuple[Tensor, Tensor, GaussianMixturePrior]:
    """Distil, and give the fitted b and A and the prior."""
    table = {
        "prompt": "a slanted gaussian",
        "prior": {"name": "gaussian-mixture", "components": [TARGET]},
        "stages": [
            {
                "steps": steps,
                "guidance": guidance,
                "renderer": {"name": "affine"},
                "optimiser": {"learning_rate": 0.01, "betas": [0.9, 0.999], "eps": 1e-8},
            }
        ],
    }
    experiment = Experiment(table, load_plugins())
    prior = build_prior(experiment)
    stage = build_stage(experiment, 0, prior, None)
    for report in distill(
        renderer=stage.renderer,
        prior=prior,
        guidance=stage.guidance,
        sample_cameras=lambda generator: sample_cameras(stage.cameras, generator),
        optimiser=stage.optimiser,
        generator=stage.generator,
        steps=range(stage.steps),
    ):
        if report.step.index % 500 == 0:
            print(f"{guidance['name']} step {report.step.index}")
    scene = stage.renderer
    assert isinstance(scene, Affine)
    assert isinstance(prior, GaussianMixturePrior)
    return scene.offset.detach(), scene.matrix.detach(), prior


def draw(panel: plt.Axes, name: str, mean: Tensor, matrix: Tensor, target: Tensor) -> None:
    """Target in blue, fitted in orange, as in the paper's figure 3."""
    noise = torch.randn(POINTS, 2, generator=Generator().manual_seed(1))
    points = mean + noise @ matrix.T
    panel.scatter(*target.T, s=5, color="tab:blue", alpha=0.5, label="target")
    panel.scatter(*points.T, s=8, color="tab:orange", alpha=0.6, label="fitted")
    spread = torch.linalg.svdvals(matrix)
    panel.set_title(f"{name}: std {spread[0]:.3f} and {spread[1]:.3f}")
    panel.set_aspect("equal")
    panel.set_xlim(-2, 6)
    panel.set_ylim(-3, 5)


def main() -> None:
    parser = argparse.ArgumentParser(description="SDS and VSD fit a Gaussian")
    parser.add_argument("--output", type=Path, default=Path("runs/two_gaussians"))
    parser.add_argument("--steps", type=int, default=2000)
    parsed = parser.parse_args()
    parsed.output.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # two threads that share a busy machine are slower than one

    figure, panels = plt.subplots(1, 1 + len(METHODS), figsize=(4 * (1 + len(METHODS)), 4.2))
    results = {name: fit(guidance, parsed.steps) for name, guidance in METHODS.items()}
    prior = next(iter(results.values()))[2]
    target = prior.sample(POINTS, generator=Generator().manual_seed(0)).flatten(1)
    draw(panels[0], "start", torch.zeros(2), torch.eye(2), target)
    for panel, (name, (mean, matrix, _)) in zip(panels[1:], results.items(), strict=True):
        draw(panel, name, mean, matrix, target)
        covariance = [[round(float(x), 4) for x in row] for row in matrix @ matrix.T]
        centre = [round(float(x), 3) for x in mean]
        print(f"{name}: mean {centre} (target {TARGET['mean']}), covariance {covariance}")
    panels[0].legend(loc="upper left")
    picture = parsed.output / "two_gaussians.png"
    figure.tight_layout()
    figure.savefig(picture, dpi=110)
    print(f"the picture is {picture}")


if __name__ == "__main__":
    main()
