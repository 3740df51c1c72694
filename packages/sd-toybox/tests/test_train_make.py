"""`python -m sd_toybox.train` from nothing to the model card, with the smallest of everything."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from sd_core.errors import ConfigError
from sd_core.prior import PriorContext
from sd_toybox.model.toybox_prior import ToyboxOptions, build
from sd_toybox.train import __main__ as command
from sd_toybox.train import make as make_module
from sd_toybox.train import measure as measure_module
from sd_toybox.train.card import pose_difference, targets
from sd_toybox.train.data import Store
from sd_toybox.train.make import Order, make
from sd_toybox.train.measure import (
    Measurements,
    Right,
    WordEffect,
    groups,
    judged,
    pose_shares,
    world_poses,
)
from sd_toybox.train.plan import FULL, LATENT_STD, QUICK, Phase
from sd_toybox.world import rates
from sd_toybox.world.kinds import HELD_OUT

SHORT = Phase(steps=3, batch=4, rate=1e-3, warm_up=1)
PLAN = replace(
    QUICK,
    world_pictures=8,
    judge_pictures=8,
    test_pictures=8,
    judge_test_pictures=8,
    vae=SHORT,
    clip=SHORT,
    diffusion=SHORT,
    guided_samples=2,
    held_out_samples=1,
    plain_samples=2,
    word_samples=1,
    judge_azimuths=8,
)


@pytest.fixture(scope="module")
def patched():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(make_module, "SAMPLING_STEPS", 2)
        patch.setattr(measure_module, "_POSE_DRAWS", 1000)
        # All 64 combinations take seconds to draw.
        few = measure_module.RenderJudge
        patch.setattr(
            measure_module,
            "RenderJudge",
            lambda *grid: few(*grid, kinds=("bear",), colours=("red",)),
        )
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory, patched):
    folder = tmp_path_factory.mktemp("made")
    lines = []
    order = Order(PLAN, 0, folder / "work", folder / "model", lines.append)
    make(order)
    return order, lines


def weights_of(folder):
    return {
        path.relative_to(folder): load_file(path) for path in sorted(folder.rglob("*.safetensors"))
    }


def same_weights(first, second):
    return first.keys() == second.keys() and all(
        torch.equal(tensor, second[path][name])
        for path, tensors in first.items()
        for name, tensor in tensors.items()
    )


def test_it_ends_with_a_model_its_numbers_and_its_card(made):
    order, lines = made
    found = json.loads((order.output / "measurements.json").read_text())
    assert found["made_by"]["fingerprint"] == order.fingerprint
    assert set(found["made_by"]["seconds"]) == {
        *("pictures", "vae", "latents", "clip", "diffusion", "measure")
    }
    assert set(found["measurements"]["right"]) == {"world", "guided", "held-out", "plain"}
    card = (order.output / "README.md").read_text()
    for part in ("| VAE, mean over pictures |", "## Losses", "| step of diffusion |", "Seed 0"):
        assert part in card
    assert lines[-1].endswith("read its README.md")
    assert len(weights_of(order.output)) == 5


def test_killed_in_any_part_it_goes_on_to_the_same_model(made, tmp_path, patched, monkeypatch):
    order, _ = made
    again = replace(order, work=tmp_path / "work", output=tmp_path / "model")
    for stop in ("normalised", "ClipTask", "DiffusionTask", "measure"):
        with monkeypatch.context() as patch:
            patch.setattr(make_module, stop, _killed)
            with pytest.raises(KeyboardInterrupt):
                make(again)
    make(again)
    assert same_weights(weights_of(again.output), weights_of(order.output))
    numbers = [
        json.loads((each.output / "measurements.json").read_text())["measurements"]
        for each in (order, again)
    ]
    assert numbers[0] == numbers[1]


def test_diffusion_learns_the_latents_that_the_shipped_vae_gives(made, tmp_path, monkeypatch):
    order, _ = made
    given = {}

    def recorded(latents, tokens, *_, **__):
        given.update(latents=latents, tokens=tokens)
        raise KeyboardInterrupt

    monkeypatch.setattr(make_module, "DiffusionTask", recorded)
    with pytest.raises(KeyboardInterrupt):
        make(replace(order, output=tmp_path / "model"))
    prior = build(ToyboxOptions(folder=str(order.output)), PriorContext(torch.device("cpu")))
    world = Store(order.work / "pictures", PLAN, 0, order.write).samples("world")
    encoded = prior.encode(world.pictures.float() / 255)
    torch.testing.assert_close(given["latents"], encoded, rtol=1e-2, atol=1e-2)
    assert abs(float(encoded.std()) - LATENT_STD) < 0.02
    assert len(given["tokens"]) == len(world.labels) + 1


def test_what_is_made_is_not_made_again(made, monkeypatch):
    order, lines = made
    monkeypatch.setattr(make_module, "_train_all", _killed)
    make(order)
    assert "Delete it to make it anew" in lines.pop()


def test_a_work_folder_of_another_seed_is_refused(made):
    order, _ = made
    with pytest.raises(ConfigError, match="begun with another plan, seed or world"):
        make(replace(order, seed=1))


def test_a_folder_with_something_else_in_it_is_not_replaced(made, tmp_path):
    order, _ = made
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ConfigError, match="holds something that is no model"):
        make(replace(order, output=tmp_path))
    assert (tmp_path / "thesis.tex").exists()


def test_the_command_says_a_mistake_in_one_line(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(command, "_quiet", lambda: None)
    assert command.main(["--minutes", "3", "--work", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("python -m sd_toybox.train: --minutes is 3, but")


def test_the_command_makes_what_it_is_told_to(capsys, tmp_path, monkeypatch):
    orders = []
    monkeypatch.setattr(command, "_quiet", lambda: None)
    monkeypatch.setattr(make_module, "make", orders.append)
    arguments = ["--quick", "--work", str(tmp_path / "w"), "--output", str(tmp_path / "o")]
    assert command.main([*arguments, "--seed", "7"]) == 0
    (order,) = orders
    assert (order.plan, order.seed, order.work.name, order.output.name) == (QUICK, 7, "w", "o")


def test_an_interrupted_command_says_that_it_goes_on(capsys, monkeypatch):
    monkeypatch.setattr(command, "_make", _killed)
    assert command.main([]) == 130
    assert "the same command goes on from here" in capsys.readouterr().err


def test_samples_are_asked_of_all_combinations_in_turn():
    by_name = {name: (pairs, scale) for name, pairs, scale in groups(FULL)}
    assert set(by_name["held-out"][0]) == HELD_OUT
    for name in ("guided", "plain"):
        counts = [by_name[name][0].count(pair) for pair in set(by_name[name][0])]
        assert len(counts) == 64 - len(HELD_OUT) and max(counts) - min(counts) <= 1
        assert not set(by_name[name][0]) & HELD_OUT
    assert (by_name["guided"][1], by_name["plain"][1]) == (7.5, 1.0)


def test_right_is_the_share_of_verdicts_that_agree():
    verdict = measure_module.Verdict(
        torch.tensor([0, 1, 2, 3]), torch.tensor([0, 0, 0, 0]), torch.tensor([0.0, 1.5, 3.0, 4.5])
    )
    kinds, colours, poses = (
        torch.tensor(values) for values in ([0, 1, 2, 0], [0, 0, 1, 1], [0, 1, 2, 0])
    )
    assert judged(verdict, kinds, colours, poses) == Right(0.75, 0.5, 0.5, 0.75)
    assert judged(verdict, kinds, colours).pose is None


def test_the_worlds_poses_are_its_rates():
    assert pose_shares(torch.tensor([0, 0, 3, 0])) == (0.75, 0.0, 0.0, 0.25)
    expected = (rates.FRONT_SHARE, rates.SIDE_SHARE / 2, rates.BACK_SHARE, rates.SIDE_SHARE / 2)
    assert pose_difference(world_poses(0), expected) < 0.03


def test_each_target_is_missed_where_its_number_is(made):
    good = Measurements(
        psnr=28.5,
        psnr_uncorrupted=31.0,
        right={
            "guided": {"renders": Right(1.0, 1.0, 0.96), "clip": Right(1.0, 1.0, 0.97)},
            "held-out": {"renders": Right(1.0, 1.0, 0.81), "clip": Right(1.0, 1.0, 0.9)},
        },
        poses={
            "world": {"truth": (0.7, 0.12, 0.06, 0.12), "renders": (0.75, 0.1, 0.05, 0.1)},
            "plain": {"renders": (0.79, 0.08, 0.05, 0.08)},
        },
        words=[WordEffect("blurry", "sharpness", -0.1, -0.05)],
    )
    bad = replace(
        good,
        psnr=27.9,
        right={
            "guided": {"renders": Right(1.0, 1.0, 0.96), "clip": Right(1.0, 1.0, 0.94)},
            "held-out": {"renders": Right(1.0, 1.0, 0.79), "clip": Right(1.0, 1.0, 0.9)},
        },
        poses={**good.poses, "plain": {"renders": (0.81, 0.06, 0.05, 0.08)}},
        words=[WordEffect("blurry", "sharpness", -0.1, 0.05)],
    )
    light = _made_by(made)
    assert [target.reached for target in targets(light, good)] == [True] * 6
    assert [target.reached for target in targets(replace(light, megabytes=26.0), bad)] == [
        False
    ] * 6


def _made_by(made):
    order, _ = made
    return make_module.MadeBy(order.fingerprint, 0, {}, 1, {}, 18.0, {}, {})


def _killed(*_, **__):
    raise KeyboardInterrupt
