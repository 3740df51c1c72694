"""The two metrics of the meter, on objects whose faces are known."""

from math import log

import pytest
import torch

from meter_views import CONTEXT, measured, ring, views_of
from sd_core.cameras import CameraBatch
from sd_core.errors import ConfigError
from sd_core.plugins import load_plugins
from sd_core.testing.metric_contract import MetricContract
from sd_toybox.meter.janus_faces import JanusFaces
from sd_toybox.meter.many_faced import many_faced
from sd_toybox.meter.orbit_metric import MeterOptions
from sd_toybox.meter.pose_consistency import PoseConsistency
from sd_toybox.world.kinds import KINDS
from sd_toybox.world.pictures import world_pictures


class OrbitContract(MetricContract):
    @pytest.fixture
    def images(self):
        """A full circle of a true object: noise would have no pose."""
        return world_pictures("bear", "red", ring())


class TestJanusFaces(OrbitContract):
    def make(self):
        return JanusFaces(MeterOptions(), CONTEXT)


class TestPoseConsistency(OrbitContract):
    def make(self):
        return PoseConsistency(MeterOptions(), CONTEXT)


SEEN = [(kind, 10.0) for kind in KINDS] + [("mug", 0.0), ("cat", 0.0), ("mug", 20.0), ("cat", 20.0)]


@pytest.mark.parametrize(("kind", "elevation"), SEEN)
def test_a_true_object_has_one_face_and_turns(kind, elevation):
    cameras = ring(24, elevation)
    views, prompt = world_pictures(kind, "purple", cameras, 32), f"a purple {kind}, sharp"
    faces = measured(JanusFaces, views, cameras, prompt)
    assert faces["janus-faces"] == 1.0
    shares = [faces[f"{pose}-share"] for pose in ("front", "right", "back", "left")]
    assert sum(shares) == pytest.approx(1.0)
    assert all(5 / 24 - 1e-6 <= share <= 7 / 24 + 1e-6 for share in shares)
    assert faces["likeness"] > 0.6
    turns = measured(PoseConsistency, views, cameras, prompt)
    assert turns["pose-consistency"] > 0.95
    assert turns["pose-entropy"] > 1.3


@pytest.mark.parametrize("faces", [2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_two_and_three_faces_are_counted(kind, faces):
    cameras = ring()
    views = views_of(many_faced(kind, faces), "red", cameras, 32)
    numbers = measured(JanusFaces, views, cameras, f"a red {kind}")
    assert numbers["janus-faces"] == faces
    assert numbers["front-share"] > 0.3


@pytest.mark.parametrize("kind", KINDS)
def test_a_mirrored_object_is_one_object_too(kind):
    """A camera at azimuth a sees what a mirror shows of the true object from -a."""
    cameras = ring()
    there = CameraBatch.concatenate([cameras]).select([-index % 24 for index in range(24)])
    views = world_pictures(kind, "red", there, 32).flip(3)
    assert measured(PoseConsistency, views, cameras, f"a red {kind}")["pose-consistency"] > 0.95


def test_an_object_that_turns_the_other_way_is_consistent_as_well():
    cameras = ring()
    views = world_pictures("bear", "red", cameras).flip(0)
    assert measured(PoseConsistency, views, cameras)["pose-consistency"] > 0.95


@pytest.mark.parametrize("kind", ["bear", "house"])
def test_an_object_that_is_all_front_has_four_faces_and_no_pose(kind):
    cameras = ring()
    views = world_pictures(kind, "red", cameras.select([0])).expand(24, -1, -1, -1)
    faces = measured(JanusFaces, views, cameras, f"a red {kind}")
    assert (faces["janus-faces"], faces["front-share"]) == (4.0, 1.0)
    turns = measured(PoseConsistency, views, cameras, f"a red {kind}")
    assert turns["pose-entropy"] == 0.0
    assert turns["pose-consistency"] < 0.1


def test_nothing_has_no_face():
    cameras, views = ring(), torch.ones(24, 3, 64, 64)
    assert set(measured(JanusFaces, views, cameras).values()) == {0.0}
    assert set(measured(PoseConsistency, views, cameras).values()) == {0.0}


def test_the_count_is_the_mean_of_the_rings():
    low, high = ring(24, 0.0), ring(24, 20.0)
    views = [world_pictures("cat", "red", low, 32), views_of(many_faced("cat", 2), "red", high, 32)]
    both = CameraBatch.concatenate([low, high])
    assert measured(JanusFaces, torch.cat(views), both, "a red cat")["janus-faces"] == 1.5


def test_half_an_orbit_without_the_object_is_half_as_consistent():
    cameras = ring()
    views = world_pictures("robot", "red", cameras, 32)
    views[:12] = 1.0
    turns = measured(PoseConsistency, views, cameras, "a red robot")
    assert 0.45 < turns["pose-consistency"] < 0.55
    assert turns["pose-entropy"] < log(3) + 0.1
    shares = measured(JanusFaces, views, cameras, "a red robot")
    assert sum(value for name, value in shares.items() if "share" in name) == pytest.approx(0.5)


def test_higher_is_better_for_consistency_and_neither_for_a_count():
    assert (JanusFaces.higher_is_better, PoseConsistency.higher_is_better) == (None, True)


def test_views_of_two_prompts_are_refused():
    metric, cameras = JanusFaces(MeterOptions(), CONTEXT), ring(8)
    views = world_pictures("bear", "red", cameras, 32)
    metric.update(views, "a red bear", cameras)
    with pytest.raises(ConfigError, match="'a red bear' and of 'a blue bear', expected one object"):
        metric.update(views, "a blue bear", cameras)
    metric.reset()
    metric.update(views, "a blue bear", cameras)


def test_two_objects_of_one_prompt_are_no_ring():
    metric, cameras = JanusFaces(MeterOptions(), CONTEXT), ring(8)
    for _ in range(2):
        metric.update(world_pictures("bear", "red", cameras, 32), "a red bear", cameras)
    with pytest.raises(ConfigError, match="turntable of one object"):
        metric.compute()


@pytest.mark.parametrize("metric", [JanusFaces, PoseConsistency])
def test_half_a_circle_is_refused(metric):
    half = ring().select(slice(0, 12))
    with pytest.raises(ConfigError, match="full circle"):
        measured(metric, torch.ones(12, 3, 32, 32), half)


def test_a_metric_without_views_says_so():
    with pytest.raises(ConfigError, match="seen no views yet"):
        JanusFaces(MeterOptions(), CONTEXT).compute()


@pytest.mark.parametrize(
    ("prompt", "told"),
    [("a red dragon", "is not in the toybox"), ("sharp", "names no object"), ("", "names no obj")],
)
def test_a_prompt_that_names_no_toy_is_refused(prompt, told):
    with pytest.raises(ConfigError, match=told):
        measured(JanusFaces, torch.ones(24, 3, 32, 32), ring(), prompt)


@pytest.mark.parametrize("shape", [(24, 4, 64, 64), (24, 3, 64, 48), (24, 3, 31, 31)])
def test_views_of_another_shape_are_refused(shape):
    with pytest.raises(ConfigError, match="square views of 3 channels and at least 32 pixels"):
        measured(JanusFaces, torch.ones(shape), ring())


def test_views_that_are_not_finite_are_refused():
    views = torch.ones(24, 3, 32, 32)
    views[3, 0, 5, 5] = torch.nan
    with pytest.raises(ConfigError, match="NaN or infinity"):
        measured(JanusFaces, views, ring())


def test_a_view_of_half_precision_with_a_graph_will_do():
    cameras = ring()
    views = world_pictures("bear", "red", cameras).half().requires_grad_()
    assert measured(JanusFaces, views, cameras)["janus-faces"] == 1.0


def test_both_are_found_by_name():
    import sd_toybox

    plugins = load_plugins(installed=False, extra=[sd_toybox], strict=True)
    for name, kind in (("janus-faces", JanusFaces), ("pose-consistency", PoseConsistency)):
        entry = plugins.find("metric", name)
        assert entry.load_build() is kind
        assert entry.load_config() is MeterOptions
