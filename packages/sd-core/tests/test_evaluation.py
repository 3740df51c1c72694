"""Views and records, against closed forms."""

import json
import math
from dataclasses import replace

import pytest
import torch

import fake_metrics
import sick_metrics
from sd_core.camera_sampling import CameraOptions
from sd_core.cameras import CameraBatch
from sd_core.errors import ConfigError, PluginError, RunFolderError
from sd_core.evaluation import (
    Batch,
    Measured,
    Rings,
    ViewOptions,
    Views,
    build_judge,
    choose_metrics,
    take_views,
)
from sd_core.evaluation_record import merged, read_record
from sd_core.metric import MetricContext
from sd_core.plugins import BrokenPlugin, Plugins, load_plugins
from sd_core.renderer import AbstractRenderer, Rendering

CONTEXT = MetricContext(torch.device("cpu"))
SOME = load_plugins(installed=False, extra=[fake_metrics])
ALL = load_plugins(installed=False, extra=[fake_metrics, sick_metrics])


class Shown(AbstractRenderer):
    """Draws whatever `make` gives for the number of cameras."""

    forward = None

    def __init__(self, make):
        super().__init__()
        self.make, self.values = make, torch.nn.Parameter(torch.zeros(1))

    def preview(self, cameras):
        return Rendering(self.make(len(cameras)))


def two_rings():
    seen = CameraOptions(distance=(1.0, 2.0), vertical_fov_deg=(30.0, 70.0))
    return Rings.seen_by(seen, ViewOptions(views=5, elevation=(-20.0, 30.0)))


def undecoded(latents):
    raise AssertionError("pictures were decoded")


def taken(renderer, decode):
    """What two rings see of it, if it is one batch."""
    (batch,) = take_views(renderer, two_rings().cameras(), decode)
    return batch


def ten_views(prompt):
    """Black, in two batches."""
    black = taken(Shown(lambda n: torch.zeros(n, 3, 4, 4)), undecoded)
    halves = [slice(0, 7), slice(7, 10)]
    batches = [Batch(black.images[some], black.cameras.select(some)) for some in halves]
    return Views(prompt, {}, lambda: batches)


# views


def test_a_ring_is_even_and_stands_in_the_middle_of_the_ranges():
    cameras = two_rings().cameras()
    assert torch.allclose(cameras.azimuth.rad2deg(), 72.0 * torch.arange(5).repeat(2))
    assert torch.allclose(
        cameras.elevation.rad2deg(), torch.tensor([-20.0, 30.0]).repeat_interleave(5)
    )
    assert torch.allclose(cameras.position.norm(dim=1), torch.tensor(1.5))
    assert torch.allclose(cameras.vertical_fov.rad2deg(), torch.tensor(50.0))
    front = torch.tensor([math.cos(math.radians(20)), 0.0, -math.sin(math.radians(20))])
    assert torch.allclose(cameras.position[0], 1.5 * front)


def test_by_default_a_ring_has_24_views_at_10_degrees():
    cameras = Rings.seen_by(CameraOptions(), ViewOptions()).cameras()
    assert len(cameras) == 24
    assert torch.allclose(cameras.elevation.rad2deg(), torch.tensor(10.0))


def test_pictures_are_clamped_and_not_decoded():
    views = taken(Shown(lambda n: torch.full((n, 3, 4, 6), 1.5)), undecoded)
    assert views.images.shape == (10, 3, 4, 6) and bool((views.images == 1).all())


def test_the_recipe_of_rings_says_where_they_are():
    recipe = {
        "count": 5,
        "elevations_deg": [-20.0, 30.0],
        "distance": 1.5,
        "vertical_fov_deg": 50.0,
    }
    assert two_rings().recipe() == recipe == json.loads(json.dumps(recipe))


def test_many_views_are_taken_a_few_at_a_time_and_a_picture_once():
    cameras = replace(two_rings(), count=13).cameras()
    views = list(take_views(Shown(lambda n: torch.zeros(n, 3, 4, 4)), cameras, undecoded))
    assert [len(batch.images) for batch in views] == [24, 2]
    seen = CameraBatch.concatenate([batch.cameras for batch in views])
    assert torch.equal(seen.azimuth, cameras.azimuth)
    pictures = list(take_views(Shown(lambda n: torch.zeros(1, 3, 4, 4)), cameras, undecoded))
    assert [batch.cameras for batch in pictures] == [None]


def test_a_scene_that_looks_the_same_from_everywhere_is_a_picture_without_a_camera():
    shown = taken(Shown(lambda n: torch.zeros(1, 3, 4, 4)), undecoded)
    assert shown.images.shape == (1, 3, 4, 4) and shown.cameras is None


def test_latents_are_decoded_a_few_at_a_time_and_in_order():
    def decode(latents):
        assert len(latents) <= 4 and not torch.is_grad_enabled()
        return latents[:, :3].repeat_interleave(8, -1)

    def latents(count):
        return torch.arange(count).div(100).view(-1, 1, 1, 1).expand(-1, 4, 1, 1)

    views = taken(Shown(latents), decode)
    assert views.images.shape == (10, 3, 1, 8)
    assert torch.equal(views.images[:, 0, 0, 0], torch.arange(10) / 100)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda n: torch.zeros(n, 2, 4, 4), "draws 2 channels, or values that are not finite"),
        (lambda n: torch.full((n, 3, 4, 4), math.nan), "draws 3 channels, or values that are not"),
    ],
)
def test_what_cannot_be_judged_is_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        taken(Shown(make), lambda latents: latents)


# metrics


def test_every_installed_metric_is_the_default():
    assert [each.entry.name for each in choose_metrics(SOME, None, [])] == ["glow", "picky"]


def test_metrics_are_taken_once_in_the_order_that_they_are_asked_for():
    chosen = choose_metrics(SOME, ["picky", "glow", "picky"], ["glow.gain=2", "picky.word=a.b=c"])
    assert [each.entry.name for each in chosen] == ["picky", "glow"]
    assert chosen[0].options.word == "a.b=c" and chosen[1].options.gain == 2


def test_without_a_metric_the_error_says_where_they_come_from_and_who_is_broken():
    broken = BrokenPlugin("toybox", "sd-toybox", "0.1", "OSError: no")
    told = "no metric is installed. Metrics come from plugins: pip install sd-toybox."
    with pytest.raises(ConfigError) as caught:
        choose_metrics(Plugins({}, (broken,), ("sd-metrics",)), None, [])
    assert str(caught.value) == (
        f"{told} sd-toybox 0.1 is installed but broken (OSError: no). sd-metrics is blocked."
    )


def test_a_metric_must_be_one_and_have_options():
    with pytest.raises(PluginError, match="sick_metrics:no_metric gave a int, not an Abstract"):
        build_judge(choose_metrics(ALL, ["no-metric"], [])[0], ALL, CONTEXT)
    with pytest.raises(PluginError, match="metric 'no-options': its config"):
        choose_metrics(ALL, ["no-options"], [])


def test_each_object_is_measured_for_itself():
    judge = build_judge(choose_metrics(SOME, ["picky"], [])[0], SOME, CONTEXT)
    two, three = ten_views("two"), ten_views("three")
    assert judge.measure(two) == judge.measure(two) == Measured({"mean": 10.0}, {}, {})
    with pytest.raises(ConfigError):
        judge.measure(three)
    assert judge.measure(two).values == {"mean": 10.0}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("undefined", "metric 'undefined' gave nan for 'ratio', which is no measurement"),
        ("empty", "metric 'empty' gave no number"),
    ],
)
def test_a_number_that_is_none_is_refused(name, message):
    judge = build_judge(choose_metrics(ALL, [name], [])[0], ALL, CONTEXT)
    with pytest.raises(PluginError, match=message):
        judge.measure(ten_views("two"))


# records


def record(names, *, views=24, steps=5, value=0.0):
    return {
        "schema": 1,
        "views": {"count": views},
        "scene": {"stage": 0, "steps_done": steps},
        "metrics": {name: {"values": {"mean": value}} for name in names},
    }


def test_metrics_of_the_same_views_of_the_same_scene_stay():
    new = record("b", value=1.0)
    both, dropped = merged(record("cab"), new)
    assert list(both["metrics"]) == ["a", "b", "c"] and dropped == []
    assert both["metrics"]["b"] == new["metrics"]["b"] != both["metrics"]["a"]


@pytest.mark.parametrize("earlier", [{"views": 12}, {"steps": 4}])
def test_metrics_of_other_views_or_another_scene_are_dropped_by_name(earlier):
    assert merged(record("cab", **earlier), record("b")) == (record("b"), ["a", "c"])


def test_a_first_record_stands_as_it_is():
    assert merged(None, record("b")) == (record("b"), [])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read .* Is it damaged"),
        ("[]", "cannot be read"),
        ('{"schema": 1, "views": {}, "scene": {}}', "cannot be read"),
        ('{"schema": 1, "views": {}, "scene": {}, "metrics": []}', "is no table"),
        ('{"schema": 2, "views": {}, "scene": {}, "metrics": {}}', "has schema 2, this sd-core"),
    ],
)
def test_a_damaged_record_is_refused_and_says_what_to_do(tmp_path, text, message):
    path = tmp_path / "metrics.json"
    path.write_text(text)
    with pytest.raises(RunFolderError, match=message) as caught:
        read_record(path)
    assert "ove it away" in str(caught.value)


def test_no_record_is_none(tmp_path):
    assert read_record(tmp_path / "metrics.json") is None
