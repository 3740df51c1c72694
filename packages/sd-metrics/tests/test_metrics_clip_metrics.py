"""CLIP distance and similarity, against what transformers' own makes of it."""

import pytest

from sd_core.errors import ConfigError
from sd_core.testing.metric_contract import MetricContract
from sd_metrics.clip_metrics import (
    ClipDistance,
    ClipOptions,
    ClipSimilarity,
    SimilarityOptions,
)
from tiny_eyes import context, cosines_of_transformers, pictures, save_clip

PROMPT = "a red bear"
OPTIONS = {ClipDistance: ClipOptions, ClipSimilarity: SimilarityOptions}


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return save_clip(tmp_path_factory.mktemp("models") / "clip")


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    return save_clip(tmp_path_factory.mktemp("models") / "other", seed=8)


def fed(kind, clip, images, *, prompt=PROMPT, parts=1, told=None):
    metric = kind(OPTIONS[kind](model=told), context(clip=clip))
    for part in images.chunk(parts):
        metric.update(part, prompt, None)
    return metric


class OfClip(MetricContract):
    @pytest.fixture(autouse=True)
    def _folder(self, clip):
        self.folder = clip

    def make(self):
        return self.kind(OPTIONS[self.kind](), context(clip=self.folder))


class TestDistance(OfClip):
    kind = ClipDistance


class TestSimilarity(OfClip):
    kind = ClipSimilarity


def test_they_are_the_mean_cosine_and_what_it_lacks_to_one(clip):
    images = pictures(5)
    cosines = cosines_of_transformers(clip, images, [PROMPT])[:, 0]
    distance, similarity = (fed(kind, clip, images) for kind in (ClipDistance, ClipSimilarity))
    mean, spread = float(cosines.mean()), float(cosines.std())
    assert similarity.compute() == pytest.approx({"clip-similarity": mean}, abs=1e-6)
    assert distance.compute() == pytest.approx({"clip-distance": 1 - mean}, abs=1e-6)
    assert similarity.deviations() == pytest.approx({"clip-similarity": spread}, rel=1e-4)
    assert distance.deviations() == pytest.approx({"clip-distance": spread}, rel=1e-4)
    assert abs(mean) > 0.01 and spread > 0.01  # or nothing was compared


def test_neither_the_order_of_the_views_nor_how_they_come_changes_anything(clip):
    images = pictures(18)
    once, parts = (fed(ClipSimilarity, clip, images), fed(ClipSimilarity, clip, images.flip(0)))
    thrice = fed(ClipSimilarity, clip, images, parts=3)
    for each in (parts, thrice):
        assert each.compute() == pytest.approx(once.compute(), rel=1e-5)
        assert each.deviations() == pytest.approx(once.deviations(), rel=1e-5)


def test_the_prompt_counts_and_the_told_model_comes_before_the_priors(clip, other):
    images = pictures(3)
    values = [
        fed(ClipSimilarity, clip, images).compute()["clip-similarity"],
        fed(ClipSimilarity, clip, images, prompt="a chair").compute()["clip-similarity"],
        fed(ClipSimilarity, clip, images, told=str(other)).compute()["clip-similarity"],
    ]
    assert len({round(value, 4) for value in values}) == 3
    expected = float(cosines_of_transformers(other, images, [PROMPT]).mean())
    assert values[2] == pytest.approx(expected, abs=1e-6)


def test_of_several_models_each_has_its_number_and_its_name(clip, other, tmp_path):
    images = pictures(3)
    both = fed(ClipSimilarity, clip, images, told=(str(clip), str(other)))
    expected = {
        f"clip-similarity-{each.name}": fed(ClipSimilarity, each, images) for each in (clip, other)
    }
    for name, alone in expected.items():
        assert both.compute()[name] == alone.compute()["clip-similarity"]
        assert both.deviations()[name] == alone.deviations()["clip-similarity"]
    assert list(both.compute()) == list(expected)
    assert [told["model"] for told in both.recipe()["clip"]] == ["clip", "other"]
    (tmp_path / "clip").symlink_to(other)
    names = (str(clip), str(tmp_path / "clip"))
    alike = fed(ClipSimilarity, clip, images, told=names)
    assert list(alike.compute()) == [f"clip-similarity-{name}" for name in names]


def test_one_view_is_enough_and_has_no_deviation(clip):
    metric = fed(ClipDistance, clip, pictures(1))
    assert 0 <= metric.compute()["clip-distance"] <= 2
    assert metric.deviations() == {}


def test_a_prompt_that_is_not_read_whole_is_refused_and_names_the_option(clip):
    with pytest.raises(ConfigError, match="has 72 tokens") as caught:
        fed(ClipDistance, clip, pictures(1), prompt="x" * 70)
    message = str(caught.value)
    assert "in the metric's options: --set METRIC.model=" in message and "\n" not in message


def test_the_recipe_names_the_model_and_the_arrows_are_opposite(clip, other):
    one, two = (fed(ClipDistance, each, pictures(1)).recipe()["clip"] for each in (clip, other))
    assert one["model"] == "clip" and two["model"] == "other" and one["sha256"] != two["sha256"]
    assert (ClipDistance.higher_is_better, ClipSimilarity.higher_is_better) == (False, True)
