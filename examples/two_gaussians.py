"""Two Gaussians meet: what SDS, VSD and ESD do to a distribution, with exact scores on a CPU.

The target is a slanted Gaussian in the plane, the scene x = b + A·c renders one point for each
"camera" c ~ N(0, I) (Wang et al. 2024, ESD, figure 3 and App. B). SDS and VSD find the target's
mean and lose its spread: A shrinks to nothing, every view becomes the same view. That is mode
collapse, in the smallest world that has it. ESD with λ = 1 finds the spread, too; with λ = 0.5 it
keeps a part along the longer axis, with 0.25 none, as its fixed point has it: see docs/methods.md.

    python examples/two_gaussians.py [--output FOLDER] [--steps N]

writes two_gaussians.png and prints the fitted means and covariances. Takes a minute.
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from torch import Generator, Tensor

from sd_core.building import build_stage
from sd_core.cameras import CameraBatch
from sd_core.condition import Condition
from sd_core.estimator import AbstractNoiseEstimator, EstimatorOptions
from sd_core.experiment import Experiment
from sd_core.noising import Noised
from sd_core.plugins import load_plugins
from sd_core.priors.gaussian_mixture import GaussianMixturePrior
from sd_core.renderers.affine import Affine
from sd_core.step import Step

METHODS: dict[str, dict[str, object]] = {
    "SDS": {"name": "sds", "scale": 1.0},
    "VSD": {"name": "vsd", "scale": 1.0},
    "ESD, λ = 0.25": {"name": "esd", "scale": 1.0, "entropy_weight": 0.25},
    "ESD, λ = 0.5": {"name": "esd", "scale": 1.0, "entropy_weight": 0.5},
    "ESD, λ = 1": {"name": "esd", "scale": 1.0, "entropy_weight": 1.0},
}
TARGET = {"mean": [2.0, 1.0], "covariance": [[1.0, 0.8], [0.8, 1.0]]}
POINTS = 1000


class GaussianPrior(GaussianMixturePrior):
    """The target, with an estimator that knows the scene's own Gaussian."""

    scene: Affine

    def new_estimator(
        self, *, view_conditioned: bool, options: EstimatorOptions
    ) -> AbstractNoiseEstimator:
        return SceneScore(self)


class SceneScore(AbstractNoiseEstimator):
    """ε of q_t = N(α·b, α²·A·Aᵀ + σ²·I), and at a camera the drawn ε (eq. 64 and 65)."""

    def __init__(self, prior: GaussianPrior) -> None:
        super().__init__()
        self.prior = prior

    def predict_noise(
        self, noised: Noised, condition: Condition, cameras: CameraBatch | None
    ) -> Tensor:
        if cameras is not None:
            return noised.noise
        scene = self.prior.scene
        # In float64: A·Aᵀ of a nearly collapsed scene would have a negative eigenvalue in float32.
        mean, matrix = scene.offset.detach().double(), scene.matrix.detach().double()
        renders = GaussianMixturePrior(mean.view(1, 2, 1, 1), (matrix @ matrix.T)[None])
        anything = renders.encode_text([""] * len(noised))
        return renders.predict_noise(noised.noisy, noised.t, anything)

    def fit(
        self,
        noised: Noised,
        condition: Condition,
        cameras: CameraBatch,
        *,
        predicted: Tensor | None,
        shown: Tensor | None = None,
        step: Step,
        generator: Generator,
    ) -> dict[str, float]:
        return {}  # there is nothing to learn


def fit(guidance: dict[str, object], steps: int) -> tuple[Tensor, Tensor]:
    """Distil, and give the fitted b and A."""
    table = {
        "prompt": "a slanted gaussian",
        "prior": {"name": "gaussian-mixture", "components": [TARGET]},
        "stages": [
            {
                "steps": steps,
                "guidance": guidance,
                "renderer": {"name": "affine"},
                "optimiser": {
                    "learning_rate": 0.01,
                    "betas": [0.9, 0.999],
                    "eps": 1e-8,
                    "warm_up_steps": 100,
                    "decay": "cosine",
                },
            }
        ],
    }
    experiment = Experiment(table, load_plugins())
    prior = target()
    stage = build_stage(experiment, 0, prior, None)
    scene = stage.renderer
    assert isinstance(scene, Affine)
    prior.scene = scene
    for report in stage.distill(prior):
        if report.step.index % 500 == 0:
            print(f"{guidance['name']} step {report.step.index}")
    return scene.offset.detach(), scene.matrix.detach()


def target() -> GaussianPrior:
    """The slanted Gaussian."""
    mean, covariance = torch.tensor(TARGET["mean"]), torch.tensor(TARGET["covariance"])
    return GaussianPrior(mean.view(1, 2, 1, 1), covariance[None])


def draw(panel: plt.Axes, name: str, mean: Tensor, matrix: Tensor, target: Tensor) -> None:
    """Target in blue, fitted in orange, as in the paper's figure 3."""
    noise = torch.randn(POINTS, 2, generator=Generator().manual_seed(1))
    points = mean + noise @ matrix.T
    panel.scatter(*target.T, s=5, color="tab:blue", alpha=0.5, label="target")
    panel.scatter(*points.T, s=8, color="tab:orange", alpha=0.6, label="fitted")
    spread = torch.linalg.svdvals(matrix)
    panel.set_title(f"{name}: std {spread[0]:.2f} and {spread[1]:.2f}")
    panel.set_aspect("equal")
    panel.set_xlim(-2, 6)
    panel.set_ylim(-3, 5)


def draw_all(results: dict[str, tuple[Tensor, Tensor]], picture: Path) -> None:
    """The start, and each method's end."""
    figure, panels = plt.subplots(2, 3, figsize=(12, 8.4))
    points = target().sample(POINTS, generator=Generator().manual_seed(0)).flatten(1)
    ends = {"start": (torch.zeros(2), torch.eye(2)), **results}
    for panel, (name, (mean, matrix)) in zip(panels.flatten(), ends.items(), strict=True):
        draw(panel, name, mean, matrix, points)
    panels[0, 0].legend(loc="upper left")
    figure.tight_layout()
    figure.savefig(picture, dpi=110)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description="SDS, VSD and ESD fit a Gaussian")
    parser.add_argument("--output", type=Path, default=Path("runs/two_gaussians"))
    parser.add_argument("--steps", type=int, default=2000)
    parsed = parser.parse_args()
    parsed.output.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # two threads that share a busy machine are slower than one

    results = {name: fit(guidance, parsed.steps) for name, guidance in METHODS.items()}
    for name, (mean, matrix) in results.items():
        covariance = [[round(float(x), 4) for x in row] for row in matrix @ matrix.T]
        centre = [round(float(x), 3) for x in mean]
        print(f"{name}: mean {centre} (target {TARGET['mean']}), covariance {covariance}")
    picture = parsed.output / "two_gaussians.png"
    draw_all(results, picture)
    print(f"the picture is {picture}")


if __name__ == "__main__":
    main()
