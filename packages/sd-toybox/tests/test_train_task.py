"""The training loop: its rate, order and average; killed and started again, nothing changes."""

from dataclasses import replace
from math import cos, pi

import pytest
import torch
from torch import nn

from sd_core.checkpoint import list_checkpoints
from sd_core.errors import CheckpointError
from sd_toybox.train.plan import Phase
from sd_toybox.train.task import (
    Run,
    Task,
    TrainingState,
    batch_rows,
    rate_at,
    train,
    training_step,
)

PHASE = Phase(steps=30, batch=4, rate=0.05, warm_up=3)


class Line(Task):
    """y = 2·x - 1 with noise: a regression of two numbers."""

    name = "line"
    samples = 10

    def __init__(self, ema_decay=0.9, stop_at=None):
        self.phase = PHASE
        self.ema_decay = ema_decay
        self.stop_at = stop_at
        self.seen = []
        layer = nn.Linear(1, 1)
        layer.load_state_dict({"weight": torch.zeros(1, 1), "bias": torch.zeros(1)})
        self.networks = nn.ModuleDict({"layer": layer})

    def losses(self, step, rows, generator):
        if step == self.stop_at:
            raise KeyboardInterrupt
        self.seen.append(step)
        x = rows[:, None] / 10
        noise = 0.1 * torch.randn(x.shape, generator=generator)
        loss = (self.networks["layer"](x) - (2 * x - 1 + noise)).square().mean()
        return {"loss": loss}


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path, "a fingerprint", 0, lambda line: None, save_every_seconds=0.0)


def weights(task):
    return nn.utils.parameters_to_vector(task.networks.parameters()).detach()


def test_the_rate_rises_in_a_line_and_falls_along_a_cosine():
    phase = Phase(steps=100, batch=1, rate=2.0, warm_up=10)
    assert rate_at(0, phase) == pytest.approx(0.2)
    assert rate_at(50, phase) == pytest.approx(1.0)
    assert rate_at(75, phase) == pytest.approx(1 + cos(3 * pi / 4))
    assert 0 < rate_at(99, phase) < 0.001


def test_each_round_sees_every_sample_once_in_an_order_of_its_own():
    task = Line()
    rounds = [[batch_rows(task, 2 * turn + half, 0) for half in (0, 1)] for turn in range(5)]
    for first, second in rounds:
        assert len({*first.tolist(), *second.tolist()}) == 8
    assert len({tuple(first.tolist()) for first, _ in rounds}) == 5


def test_a_batch_is_never_larger_than_all_samples():
    task = Line()
    task.phase = replace(PHASE, batch=64)
    assert sorted(batch_rows(task, 3, 0).tolist()) == list(range(10))


def test_it_learns(run):
    outcome = train(task := Line(ema_decay=None), run)
    assert outcome.history[-1][1]["loss"] < 0.5 * outcome.history[0][1]["loss"]
    assert outcome.history[-1][0] == PHASE.steps and outcome.seconds > 0
    assert weights(task)[0] > 0.3


def test_killed_and_started_again_equals_uninterrupted_to_the_bit(run, tmp_path):
    whole, parts = Line(), Line(stop_at=17)
    expected = train(whole, replace(run, folder=tmp_path / "whole"))
    with pytest.raises(KeyboardInterrupt):
        train(parts, run)
    again = Line()
    outcome = train(again, run)
    assert again.seen == list(range(17, 30))
    assert torch.equal(weights(again), weights(whole))
    assert outcome.history == expected.history


def test_a_finished_training_is_not_repeated(run):
    first = Line()
    expected = train(first, run)
    again = Line(stop_at=0)
    assert train(again, run) == expected
    assert torch.equal(weights(again), weights(first)) and again.seen == []


def test_without_time_passed_only_the_end_is_saved(run):
    train(Line(), replace(run, save_every_seconds=1e9))
    (only,) = list_checkpoints(run.folder / "line")
    assert only.name.endswith("step_000030")


def test_the_result_is_the_running_mean_of_the_weights(run):
    task = Line(ema_decay=0.6)
    state = TrainingState(task)
    mean = weights(task)
    for step in range(8):
        training_step(task, state, 0)
        decay = min(0.6, (1 + step) / (10 + step))
        mean = decay * mean + (1 - decay) * weights(task)
    last = weights(task)
    state.use_average()
    torch.testing.assert_close(weights(task), mean)
    assert not torch.allclose(mean, last)


def test_a_loss_that_is_not_finite_stops_the_training(run):
    task = Line()
    task.losses = lambda step, rows, generator: {"loss": torch.tensor(float("nan"))}
    with pytest.raises(FloatingPointError, match="loss of line is not finite at step 0"):
        train(task, run)


def test_a_state_of_another_plan_is_refused(run):
    train(Line(), run)
    with pytest.raises(CheckpointError, match="another experiment"):
        train(Line(), replace(run, fingerprint="another"))


def test_a_damaged_state_says_what_to_delete(run):
    train(Line(), run)
    newest = list_checkpoints(run.folder / "line")[-1]
    (newest / "state.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"damaged.*Delete it, and the training goes on"):
        train(Line(), run)
