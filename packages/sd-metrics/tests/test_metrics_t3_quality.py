"""T3Bench's quality, against its loops written out over transformers' CLIP and a convex hull."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Generator

from sd_core.cameras import icosphere, turntable
from sd_core.config import parse_options
from sd_core.encoders.usual import USUAL
from sd_core.errors import ConfigError
from sd_core.metric import AbstractMetric, MetricContext
from sd_core.testing.metric_contract import MetricContract
from sd_metrics.icosphere import neighbours, vertices
from sd_metrics.t3_quality import (
    FIELDS_DEG,
    T3Quality,
    T3QualityOptions,
    best_of_renders,
    icosphere_renders,
    quality,
)
from tiny_readers import CPU, cosines, pictures, save_clip

spatial = pytest.importorskip("scipy.spatial")

PROMPT = "a red bear"


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return save_clip(tmp_path_factory.mktemp("clip"))


def made(clip, **values):
    options = parse_options(T3QualityOptions, values, where="t3-quality")
    return T3Quality(options, MetricContext(CPU, replace(USUAL, clip=str(clip))))


def refused(call):
    with pytest.raises(ConfigError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    return message


class TestAsGiven(MetricContract):
    @pytest.fixture(autouse=True)
    def _model(self, clip):
        self.clip = clip

    def make(self) -> AbstractMetric:
        return made(self.clip, views="as-given")


class TestFromAllAround(MetricContract):
    @pytest.fixture(autouse=True)
    def _model(self, clip):
        self.clip = clip

    def make(self) -> AbstractMetric:
        return made(self.clip)


def test_equal_rewards_are_twenty_times_one_of_them_and_fifty():
    near = neighbours(vertices(1))
    constant = torch.full((42,), -0.4, dtype=torch.float64)
    assert quality(constant, near, 3) == pytest.approx(42.0)


def test_a_slope_over_the_icosahedron_loses_most_of_its_height_in_three_rounds():
    points = vertices(0)
    expected = 20 * ((1 + 5**0.5) / 6) ** 3 * float(points[:, 2].max()) + 50
    assert quality(points[:, 2], neighbours(points), 3) == pytest.approx(expected)


def test_the_best_of_the_renders_counts():
    generator = Generator().manual_seed(4)
    rewards = torch.randn(12, generator=generator, dtype=torch.float64) - 3  # all below zero
    places = torch.tensor([2, 0, 1, 1, 0, 2, 2, 1, 0, 0, 1, 2])
    expected = [max(rewards[i] for i in range(12) if places[i] == place) for place in range(3)]
    assert torch.equal(best_of_renders(rewards, places, 3), torch.stack(expected))


def test_renders_look_through_the_fields_of_t3bench_where_the_widest_is_60_degrees():
    cameras = icosphere_renders(0, 5, distance=2.2, vertical_fov_deg=60.0)
    assert len(cameras) == 60
    fields = cameras.vertical_fov.rad2deg().view(5, 12)
    expected = torch.tensor(FIELDS_DEG)[:, None].expand(5, 12)
    torch.testing.assert_close(fields, expected)
    torch.testing.assert_close(cameras.position.norm(dim=1), torch.full((60,), 2.2))


def test_renders_of_another_field_are_as_much_closer():
    cameras = icosphere_renders(0, 5, distance=3.0, vertical_fov_deg=40.0)
    size = (cameras.vertical_fov[::12] / 2).tan()
    there = (torch.tensor(FIELDS_DEG).deg2rad() / 2).tan()
    torch.testing.assert_close(size / size[0], there / there[0])
    assert math.degrees(float(cameras.vertical_fov[0])) == pytest.approx(40)


@pytest.mark.parametrize(("subdivision", "renders"), [(0, 5), (1, 2), (2, 1)])
def test_it_wants_every_vertex_as_often_as_told(clip, subdivision, renders):
    metric = made(clip, subdivision=subdivision, renders=renders)
    cameras = metric.wanted_cameras(distance=2.0, vertical_fov_deg=50.0)
    assert cameras is not None
    found = torch.unique((cameras.position / 2).mul(1e4).round(), dim=0, return_counts=True)[1]
    assert found.tolist() == [renders] * len(icosphere(subdivision))
    assert made(clip, views="as-given").wanted_cameras(distance=2.0, vertical_fov_deg=5.0) is None


def by_hand(clip, images, directions, rounds):
    """T3Bench's loops, with the hull's edges for neighbours."""
    points = icosphere(0)
    rewards = cosines(clip, images, PROMPT).double()
    scores = dict.fromkeys(range(12), -114514.0)
    for reward, direction in zip(rewards, directions.double(), strict=True):
        place = int((points @ direction).argmax())
        scores[place] = max(scores[place], float(reward))
    near: dict[int, set[int]] = {i: set() for i in range(12)}
    for corners in spatial.ConvexHull(points.numpy()).simplices.tolist():
        for corner in corners:
            near[corner] |= set(corners) - {corner}
    for _ in range(rounds):
        scores = {
            i: (scores[i] + sum(scores[j] for j in near[i])) / (1 + len(near[i])) for i in scores
        }
    return max(scores.values()) * 20 + 50


@pytest.mark.parametrize("rounds", [0, 1, 3])
def test_the_number_is_that_of_t3benchs_loops_in_any_order_of_the_views(clip, rounds):
    metric = made(clip, subdivision=0, renders=2, rounds=rounds)
    cameras = metric.wanted_cameras(distance=3.0, vertical_fov_deg=40.0)
    order = torch.randperm(24, generator=Generator().manual_seed(5))
    cameras, images = cameras.select(order), pictures(24)
    for some in (slice(0, 7), slice(7, 24)):
        metric.update(images[some], PROMPT, cameras.select(some))
    expected = by_hand(clip, images, cameras.position / 3, rounds)
    assert metric.compute()["t3-quality-clip"] == pytest.approx(expected, abs=1e-4)
    if rounds == 3:  # the averages do something
        assert abs(expected - by_hand(clip, images, cameras.position / 3, 0)) > 0.01


def test_pictures_as_they_are_give_the_mean_with_or_without_cameras(clip):
    images = pictures(4)
    expected = 20 * float(cosines(clip, images, PROMPT).mean()) + 50
    for cameras in (None, turntable(4)):
        metric = made(clip, views="as-given")
        metric.update(images, PROMPT, cameras)
        assert metric.compute()["t3-quality-clip"] == pytest.approx(expected, abs=1e-4)


def test_pictures_without_cameras_are_refused(clip):
    metric = made(clip)
    message = refused(lambda: metric.update(pictures(2), PROMPT, None))
    assert 'views = "as-given"' in message


def test_pictures_from_elsewhere_are_refused(clip):
    metric = made(clip, subdivision=0)
    message = refused(lambda: metric.update(pictures(4), PROMPT, turntable(4)))
    assert "12 vertices" in message and "from other places" in message


def test_a_vertex_that_was_not_seen_as_often_as_the_others_is_refused(clip):
    metric = made(clip, subdivision=0, renders=1)
    cameras = metric.wanted_cameras(distance=3.0, vertical_fov_deg=40.0)
    images = pictures(12)
    metric.update(images[:11], PROMPT, cameras.select(slice(0, 11)))
    assert "0 to 1 pictures from each of 12" in refused(metric.compute)
    metric.update(images[11:], PROMPT, cameras.select([11]))
    assert metric.compute()
    metric.update(images, PROMPT, cameras)  # another object of the same prompt
    assert "2 to 2 pictures" in refused(metric.compute)
    metric.reset()
    metric.update(images, PROMPT, cameras)
    assert metric.compute()


def test_no_views_and_two_prompts_are_refused(clip):
    metric = made(clip, views="as-given")
    assert "no view" in refused(metric.compute)
    metric.update(pictures(1), PROMPT, None)
    assert "expected one object" in refused(lambda: metric.update(pictures(1), "a fox", None))


def test_a_reward_without_what_it_needs_and_with_what_it_does_not_is_refused(clip):
    assert "needs its weights" in refused(lambda: made(clip, reward="image-reward"))
    message = refused(lambda: made(clip, weights="ImageReward.pt"))
    assert "reward 'clip' has no use for weights" in message
    both = {"reward": "image-reward", "weights": "a.pt", "model": "b"}
    assert "has no use for model" in refused(lambda: made(clip, **both))


def test_the_recipe_says_whose_reward_it_is_and_that_it_is_not_t3benchs(clip):
    recipe = made(clip, subdivision=2).recipe()
    assert recipe["reward"] == "clip" and recipe["clip"]["model"] == clip.name
    assert (recipe["vertices"], recipe["renders"], recipe["rounds"]) == (162, 5, 3)
    assert recipe["t3bench_definition"] is False
    assert "vertices" not in made(clip, views="as-given").recipe()
