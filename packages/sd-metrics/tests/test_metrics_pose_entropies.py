"""The entropy of poses by texts, against transformers' own and scipy."""

from math import log

import pytest
import torch

from sd_core.encoders.usual import USUAL
from sd_core.errors import ConfigError
from sd_core.testing.metric_contract import MetricContract
from sd_metrics.clip_metrics import ClipOptions
from sd_metrics.pose_entropies import ClipEntropy, pose_texts
from tiny_eyes import LOG_SCALE, context, cosines_of_transformers, pictures, save_clip

stats = pytest.importorskip("scipy.stats")

SCALE = float(torch.tensor(LOG_SCALE).exp())


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return save_clip(tmp_path_factory.mktemp("models") / "clip")


def fed(clip, images, *, prompt="a red bear", parts=1, **encoders):
    metric = ClipEntropy(ClipOptions(), context(clip=clip, **encoders))
    for part in images.chunk(parts):
        metric.update(part, prompt, None)
    return metric


class TestClipEntropy(MetricContract):
    @pytest.fixture(autouse=True)
    def _folder(self, clip):
        self.folder = clip

    def make(self):
        return ClipEntropy(ClipOptions(), context(clip=self.folder))


def test_the_texts_are_the_papers():
    assert pose_texts("a bear", USUAL.poses) == (
        "a bear, from front view",
        "a bear, from side view",
        "a bear, from back view",
    )


@pytest.mark.parametrize("poses", [USUAL.poses, ("front view", "back view")])
def test_it_is_the_entropy_of_the_mean_probabilities_of_transformers(clip, poses):
    images = pictures(6)
    texts = [f"a chair, {words}" for words in poses]
    p = (SCALE * cosines_of_transformers(clip, images, texts)).softmax(dim=1).mean(dim=0)
    metric = fed(clip, images, prompt="a chair", poses=poses)
    expected = stats.entropy(p.numpy())
    assert metric.compute() == pytest.approx({"clip-entropy": expected}, rel=1e-6)
    assert expected < log(len(poses)) - 1e-3  # or nothing was compared
    recipe = metric.recipe()
    assert recipe["maximum"] == pytest.approx(log(len(poses)))
    assert recipe["texts"] == [f"PROMPT, {words}" for words in poses]
    assert recipe["clip"]["model"] == "clip"


def test_neither_the_order_of_the_views_nor_how_they_come_changes_anything(clip):
    images = pictures(18)
    once = fed(clip, images).compute()
    assert fed(clip, images.flip(0), parts=3).compute() == pytest.approx(once, rel=1e-6)


def test_another_prompt_after_a_reset_has_texts_of_its_own(clip):
    images = pictures(4)
    metric = fed(clip, images)
    metric.reset()
    metric.update(images, "a chair", None)
    assert metric.compute() == fed(clip, images, prompt="a chair").compute()
    assert metric.compute() != pytest.approx(fed(clip, images).compute(), rel=1e-5)


def test_one_view_and_one_pose_are_refused(clip):
    with pytest.raises(ConfigError, match="there is 1 view of the object, expected 2 or more"):
        fed(clip, pictures(1)).compute()
    with pytest.raises(ConfigError, match="words for 1 poses, expected two or more"):
        fed(clip, pictures(2), poses=("front view",))


def test_a_prompt_that_is_not_read_whole_with_the_words_of_a_pose_is_refused(clip):
    with pytest.raises(ConfigError, match=r"from front view' has .* METRIC\.model="):
        fed(clip, pictures(2), prompt="x" * 55)


def test_more_is_better():
    assert ClipEntropy.higher_is_better and ClipEntropy.scope == "object"
