"""Eight Gaussians on a circle: where SDS and Jensen-Shannon score distillation end.

The toy world of Do & Hua 2025 (JSD, arXiv:2503.10660, section 5.1 and supplement 4): Gaussians 0.1
wide on the unit circle. A point starts at (-1, 1), (1, -1) or (-1, -1) and is moved by Adam at
0.03; each seed has noise of its own. The prior is the mixture itself, whose noise is known exactly,
and a small network like the paper's, trained here.

The paper makes 10 steps a seed. Adam then moves a coordinate by 0.305 at most, and each start is
0.293 in both from its nearest mode: 10 steps reach that one and no other, by any method. So more
steps are made here, and both are shown. The paper names no t, weight or scale for this world: here
both methods have the same uniform t, each its own weight, and the prompt is the whole mixture.

    python examples/eight_gaussians.py [--output FOLDER] [--steps N] [--seeds N]

writes eight_gaussians.png and prints where the points end, and how the two terms of the gradient go
together at the start. Needs sd-guidance-jsd.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from math import pi
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from sd_core.baselines.sds import SDS, SDSOptions
from sd_core.cameras import CameraBatch, turntable
from sd_core.condition import Condition
from sd_core.distill import distill
from sd_core.estimator import AbstractNoiseEstimator, EstimatorOptions
from sd_core.guidance import GuidanceContext
from sd_core.noising import NoiseSchedule, draw
from sd_core.prior import AbstractPrior
from sd_core.priors.gaussian_mixture import GaussianMixturePrior
from sd_core.prompts import PromptOptions
from sd_core.renderer import AbstractRenderer, Rendering
from sd_core.residual import ResidualGuidance
from sd_core.step import Step
from sd_core.timesteps import TimestepOptions
from sd_guidance_jsd.jsd import JSD
from sd_guidance_jsd.options import JSDOptions

Places = Sequence[tuple[float, float]]
STARTS: Places = ((-1.0, 1.0), (1.0, -1.0), (-1.0, -1.0))
WIDTH = 0.1
MODES = torch.view_as_real(torch.polar(torch.ones(8), torch.arange(8) * pi / 4))
ALL, ONE = "eight gaussians", "gaussian 0"  # two prompts: everything, and the mode at (1, 0)
METHODS = ("SDS", "JSD")
PAPER_STEPS = 10
LEARNING_RATE = 0.03
NEAR = 3 * WIDTH  # a point is at a mode within this distance; modes are 0.77 apart
LEAST_SHARE = 0.01  # of the points, for a mode to count as reached
TIMES = TimestepOptions()


@dataclass(frozen=True)
class Setting:
    """What both methods are told."""

    prompt: str = ALL
    scale: float = 1.0
    timesteps: TimestepOptions = TIMES

    def guidance(self, method: str, prior: AbstractPrior) -> ResidualGuidance:
        build, options = {"SDS": (SDS, SDSOptions), "JSD": (JSD, JSDOptions)}[method]
        prompt = PromptOptions(text=self.prompt, views="none")
        context = GuidanceContext(prior, prompt, lambda name, options: made)
        made = build(options(scale=self.scale, timesteps=self.timesteps), context)
        return made


def exact_prior() -> GaussianMixturePrior:
    """The mixture, with the paper's β."""
    return GaussianMixturePrior(
        MODES.view(8, 2, 1, 1),
        WIDTH**2 * torch.eye(2).expand(8, 2, 2),
        prompts=[(ALL, f"gaussian {number}") for number in range(8)],
        schedule=NoiseSchedule.linear(),
    )


class Network(nn.Module):
    """ε of a point: t through two layers, then point, t and class through four more."""

    def __init__(self, hidden: int = 128) -> None:
        super().__init__()
        time = [nn.Linear(1, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()]
        self.time = nn.Sequential(*time)
        layers: list[nn.Module] = []
        for size in (2 + hidden + 8, hidden, hidden):
            layers += [nn.Linear(size, hidden), nn.LayerNorm(hidden), nn.ReLU()]
        self.main = nn.Sequential(*layers, nn.Linear(hidden, 2))

    def forward(self, noisy: Tensor, time: Tensor, classes: Tensor) -> Tensor:
        seen = [noisy.flatten(1), self.time(time.unsqueeze(1)), classes]
        return self.main(torch.cat(seen, dim=1)).view_as(noisy)


class LearnedPrior(AbstractPrior):
    """The paper's kind of diffusion model: 1000 steps, β from 1e-4 to 0.02, a small network.

    A text names one class or, being any other, none: then the network sees zeros.
    """

    def __init__(self, network: Network) -> None:
        self.schedule = NoiseSchedule.linear()
        self.latent_shape = (2, 1, 1)
        self.device = torch.device("cpu")
        self._network = network.requires_grad_(False)

    def encode_text(self, prompts: Sequence[str], cameras: CameraBatch | None = None) -> Condition:
        known = [f"gaussian {number}" for number in range(8)]
        rows = [[float(prompt == name) for name in known] for prompt in prompts]
        return Condition(tuple(prompts), {"classes": torch.tensor(rows)})

    def encode(self, images: Tensor, *, generator: Generator | None = None) -> Tensor:
        return images

    def decode(self, latents: Tensor) -> Tensor:
        return latents

    def predict_noise(self, noisy: Tensor, t: Tensor, condition: Condition) -> Tensor:
        return self._network(noisy, t / len(self.schedule), condition.tensors["classes"])

    def new_estimator(
        self, *, view_conditioned: bool, options: EstimatorOptions
    ) -> AbstractNoiseEstimator:
        raise NotImplementedError("neither SDS nor JSD asks for the score of what is rendered")


def train(steps: int, seed: int = 0) -> LearnedPrior:
    """A network that has seen `steps` batches of 128; the class is left out of every fifth."""
    exact, generator = exact_prior(), Generator().manual_seed(seed)
    torch.manual_seed(seed)
    network = Network()
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        members = torch.randint(8, (128,), generator=generator)
        points = MODES[members] + WIDTH * torch.randn(128, 2, generator=generator)
        t = torch.randint(len(exact.schedule), (128,), generator=generator)
        noised = draw(exact.schedule, points.view(-1, 2, 1, 1), t, generator)
        told = torch.rand(128, 1, generator=generator) > 0.2
        classes = F.one_hot(members, 8) * told
        loss = F.mse_loss(network(noised.noisy, t / len(exact.schedule), classes), noised.noise)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        decay.step()
    return LearnedPrior(network)


class Points(AbstractRenderer):
    """The scene: one point for each camera, which is one seed."""

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.points = nn.Parameter(start.clone())

    def forward(self, cameras: CameraBatch) -> Rendering:
        return Rendering(self.points.view(-1, 2, 1, 1))


def starts(seeds: int, places: Places = STARTS) -> Tensor:
    """All seeds of the first start, then of the second, and so on."""
    return torch.tensor(places).repeat_interleave(seeds, dim=0)


def paths(
    guidance: ResidualGuidance, steps: int, seeds: int, seed: int = 0, places: Places = STARTS
) -> Tensor:
    """Where each point was after 0 ... `steps` steps, [steps + 1, starts, seeds, 2]."""
    scene = Points(starts(seeds, places))
    cameras = turntable(len(places) * seeds)
    found = [scene.points.detach().clone()]
    for _ in distill(
        renderer=scene,
        prior=guidance.prior,
        guidance=guidance,
        sample_cameras=lambda generator: cameras,
        # The loop divides by the number of points, which Adam takes back: each is on its own.
        optimiser=torch.optim.Adam(scene.parameters(), lr=LEARNING_RATE, eps=1e-15),
        generator=Generator().manual_seed(seed),
        steps=range(steps),
    ):
        found.append(scene.points.detach().clone())
    return torch.stack(found).view(steps + 1, len(places), seeds, 2)


@dataclass(frozen=True)
class Ends:
    """Where the points of one start are."""

    modes: int  # of the eight, those with at least 1 % of the points, and at least one
    at: float  # share of points within 0.3 of any mode
    spread: float  # standard deviation of the points at a mode, a mean over modes; the prior's: 0.1
    far: float  # mean distance from the origin; the prior's: 1.0


def judge(points: Tensor) -> Ends:
    """`points` [n, 2]."""
    distance, nearest = torch.cdist(points, MODES).min(dim=1)
    at = [points[(nearest == number) & (distance < NEAR)] for number in range(8)]
    shares = torch.tensor([len(own) / len(points) for own in at])
    spreads = [(own - own.mean(0)).square().mean().sqrt() for own in at if len(own) >= 5]
    return Ends(
        modes=int((shares >= max(LEAST_SHARE, 1 / len(points))).sum()),
        at=float(shares.sum()),
        spread=float(torch.stack(spreads).mean()) if spreads else float("nan"),
        far=float(points.norm(dim=1).mean()),
    )


@dataclass(frozen=True)
class Terms:
    """The terms a, b of the residual w·(a - b) at the start, over draws of t and noise."""

    correlation: float  # Pearson's, of each coordinate, a mean over coordinates and starts
    left: float  # variance of a - b over that of a: below 1 where b takes noise away
    noise: float  # standard deviation of the gradient over the length of its mean


def compare_terms(guidance: ResidualGuidance, draws: int, seed: int = 0) -> Terms:
    """At the first step, from all starts."""
    latents, cameras = starts(draws).view(-1, 2, 1, 1), turntable(len(STARTS) * draws)
    generator, step = Generator().manual_seed(seed), Step(0, 1)
    with torch.no_grad():
        noised = guidance.noised(latents, cameras, step=step, generator=generator)
        sides = guidance.sides(noised, cameras, step=step, generator=generator)
        weights = guidance.weights(noised, step=step).flatten(1)
    first, second = (side.noise.flatten(1).view(len(STARTS), draws, 2) for side in sides)
    gradient = weights.view(len(STARTS), draws, 1) * (first - second)
    centred = [term - term.mean(1, keepdim=True) for term in (first, second)]
    covariance = (centred[0] * centred[1]).mean(1)
    correlation = covariance / (first.var(1, correction=0) * second.var(1, correction=0)).sqrt()
    left = (first - second).var(1).sum(-1) / first.var(1).sum(-1)
    noise = gradient.var(1).sum(-1).sqrt() / gradient.mean(1).norm(dim=-1)
    return Terms(*(round(float(value.mean()), 3) for value in (correlation, left, noise)))


def draw_panel(panel: plt.Axes, path: Tensor, title: str) -> None:
    """Some paths of one start, and all points after the paper's steps and at the end."""
    side, line = (-1.5, 1.5), torch.linspace(-1.5, 1.5, 120)
    grid = torch.cartesian_prod(line, line)
    density = (-torch.cdist(grid, MODES).square() / (2 * WIDTH**2)).exp().sum(1).view(120, 120).T
    panel.imshow(density, extent=(*side, *side), origin="lower", cmap="Greys", alpha=0.6)
    for one in path[:, :20].unbind(1):
        panel.plot(*one.T, color="tab:blue", linewidth=0.4, alpha=0.25)
    panel.scatter(*path[-1].T, s=4, color="tab:blue", label=f"after {len(path) - 1} steps")
    if len(path) > PAPER_STEPS + 1:
        panel.scatter(*path[PAPER_STEPS].T, s=4, color="tab:orange", label="after the paper's 10")
    panel.scatter(*path[0, 0], s=50, color="tab:red", marker="*", label="start", zorder=3)
    panel.set_title(title, fontsize=10)
    panel.set(xlim=side, ylim=side, xticks=(-1, 0, 1), yticks=(-1, 0, 1))


def write_picture(picture: Path, rows: dict[str, Sequence[Tensor]]) -> None:
    """A row of panels for each title, each of the paths from one start, [steps + 1, seeds, 2]."""
    columns = max(map(len, rows.values()))
    figure, grid = plt.subplots(
        len(rows), columns, figsize=(3.2 * columns, 3.3 * len(rows)), squeeze=False
    )
    for panels, (title, made) in zip(grid, rows.items(), strict=True):
        for panel, path in zip(panels, made, strict=True):
            ends = judge(path[-1])
            found = f"modes reached: {ends.modes}, by {ends.at:.0%} of the points"
            draw_panel(panel, path, f"{title}\n{found}")
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.4 / len(rows) / 3.3))
    marks = grid[0][0].get_legend_handles_labels()
    figure.legend(*marks, loc="upper center", ncols=3, markerscale=2)
    figure.savefig(picture, dpi=100)
    plt.close(figure)


def show(steps: int, points: Tensor) -> None:
    """`points` [starts, seeds, 2]; for more and more of the seeds, as in the paper's figures."""
    for count in sorted({min(count, points.shape[1]) for count in (10, 100, points.shape[1])}):
        ends = [judge(own) for own in points[:, :count]]
        found = "; ".join(f"{e.modes}, {e.at:.0%}, {e.spread:.3f}, {e.far:.2f}" for e in ends)
        print(f"  {steps} steps, {count} seeds: {found}")


def main() -> None:
    parser = argparse.ArgumentParser(description="SDS and JSD among eight Gaussians")
    parser.add_argument("--output", type=Path, default=Path("runs/eight_gaussians"))
    parser.add_argument("--steps", type=int, default=300, help="the paper: 10")
    parser.add_argument("--seeds", type=int, help="points from each start (the paper: 10 to 1000)")
    parsed = parser.parse_args()
    parsed.output.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # two threads that share a busy machine are slower than one
    trial = parsed.steps < PAPER_STEPS  # shorter than the paper's: only to see that it runs
    seeds = parsed.seeds or (20 if trial else 300)

    print("from each start: modes reached, points at them, their spread, distance from the origin")
    priors = {"exact prior": exact_prior(), "learned prior": train(50 if trial else 6000)}
    made = {}
    for told, prior in priors.items():
        for method in METHODS:
            guidance = Setting().guidance(method, prior)
            path = paths(guidance, parsed.steps, seeds)
            made[f"{method}, {told}"] = path.unbind(1)
            print(f"{told}, {method}: {compare_terms(guidance, 100 if trial else 2000)}")
            for steps in sorted({min(PAPER_STEPS, parsed.steps), parsed.steps}):
                show(steps, path[steps])
    picture = parsed.output / "eight_gaussians.png"
    write_picture(picture, made)
    print(f"the picture is {picture}")


if __name__ == "__main__":
    main()
