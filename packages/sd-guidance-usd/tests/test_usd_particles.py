"""USD on several scenes, which share p̄: two Gaussians are two poses, seen by particles in turn."""

import json
from pathlib import Path

import pytest
import torch

from sd_core.checkpoint import list_checkpoints, load_checkpoint
from sd_core.cli import main
from sd_core.experiment import Experiment
from sd_core.plugins import load_plugins
from sd_core.run_folder import RunFolder, fingerprint
from sd_guidance_usd.marginal import Marginal, memory_rate

STEPS, PARTICLES, MEMORY = 8, 3, 4
EXPERIMENT = """
[prompt]
text = "a red bear"
views = "none"

[prior]
name = "gaussian-mixture"
components = [
    { mean = [-2, 0], covariance = [[1, 0], [0, 1]], prompts = ["a red bear", "a red bear, west"] },
    { mean = [2, 0], covariance = [[1, 0], [0, 1]], prompts = ["a red bear", "a red bear, east"] },
]

[[stages]]
steps = 8
cameras = { batch = 1, stratified_azimuth = false }
renderer = { name = "particles", scene = { name = "affine", mean = [-1, 0] }, count = 3 }

[stages.guidance]
name = "usd"
memory = 4
scale = 1
classifier = { kind = "exact", phrases = { west = "west", east = "east" } }
"""


def went(folder: Path) -> tuple[dict[str, torch.Tensor], list[dict[str, float]]]:
    """What the newest checkpoint holds, and the log."""
    _, table = RunFolder.open(folder)
    made_by = fingerprint(Experiment(table, load_plugins()).resolved())
    _, state = load_checkpoint(list_checkpoints(folder / "checkpoints")[-1], experiment=made_by)
    lines = (folder / "log.jsonl").read_text("utf-8").splitlines()
    return state, [json.loads(line) for line in lines]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "two.toml").write_text(EXPERIMENT, "utf-8")
    told = ["run", str(tmp_path / "two.toml"), "--output", str(tmp_path / "run"), "--quiet"]
    assert main([*told, "--set", "run.checkpoint_every=2", "--set", "run.threads=1"]) == 0
    return tmp_path / "run"


def test_particles_move_apart_and_learn_one_marginal(run: Path):
    state, log = went(run)
    assert len(log) == STEPS
    offsets = [state["scene"][f"scenes.{each}.offset"] for each in range(PARTICLES)]
    assert len({tuple(each.tolist()) for each in offsets}) == PARTICLES
    # The same running mean over all steps, whichever particle was drawn.
    marginal = Marginal(bins=10, classes=2, times=1000, rate=memory_rate(MEMORY))
    for step in log:
        seen = torch.tensor([[step["seen_west"], step["seen_east"]]])
        marginal.learn(torch.tensor([int(step["t"])]), seen)
    torch.testing.assert_close(state["guidance"]["marginal.shares"], marginal.shares)
    assert not torch.allclose(marginal.shares, torch.full((10, 2), 0.5))
