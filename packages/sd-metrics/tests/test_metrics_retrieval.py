"""R-precision, against a loop over the cosines that transformers' own gives."""

import pytest
import torch

from sd_core.errors import ConfigError
from sd_core.testing.metric_contract import MetricContract
from sd_metrics.retrieval import ClipRPrecision, RetrievalOptions, is_retrieved
from tiny_eyes import context, cosines_of_transformers, pictures, save_clip

PROMPTS = ("a red bear", "a blue fox", "a chair", "two owls on a branch")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return save_clip(tmp_path_factory.mktemp("models") / "clip")


@pytest.fixture(scope="module")
def listed(tmp_path_factory):
    return write(tmp_path_factory.mktemp("lists") / "prompts.txt", PROMPTS)


def write(path, lines):
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return str(path)


def fed(clip, prompts, images, *, prompt="a red bear", parts=1):
    metric = ClipRPrecision(RetrievalOptions(prompts=prompts), context(clip=clip))
    for part in images.chunk(parts):
        metric.update(part, prompt, None)
    return metric


class TestRPrecision(MetricContract):
    @pytest.fixture(autouse=True)
    def _folders(self, clip, listed):
        self.clip, self.listed = clip, listed

    def make(self):
        return ClipRPrecision(RetrievalOptions(prompts=self.listed), context(clip=self.clip))


def test_the_own_text_is_retrieved_where_it_is_nearer_than_every_other():
    cosines = torch.tensor([[0.3, 0.2, 0.1], [0.3, 0.2, 0.4], [0.3, 0.3, 0.1], [-0.1, -0.2, -0.3]])
    assert is_retrieved(cosines).tolist() == [True, False, False, True]


def test_shares_are_those_of_a_loop_for_every_prompt(clip, listed):
    images = pictures(20)
    cosines = cosines_of_transformers(clip, images, PROMPTS)
    nearest = [max(range(4), key=lambda k: row[k]) for row in cosines.tolist()]
    by_mean = int(cosines.mean(dim=0).argmax())
    shares = []
    for index, prompt in enumerate(PROMPTS):
        found = fed(clip, listed, images, prompt=prompt).compute()
        assert found == {
            "clip-r-precision": pytest.approx(nearest.count(index) / 20),
            "clip-r-precision-object": float(by_mean == index),
        }
        shares.append(found["clip-r-precision"])
    assert sum(shares) == pytest.approx(1)
    assert len({share for share in shares if 0 < share < 1}) > 1  # or little was compared


def test_neither_orders_nor_batches_change_anything(clip, listed, tmp_path):
    images = pictures(18)
    turned = write(
        tmp_path / "turned.txt", ["", *(f"  {each} " for each in reversed(PROMPTS)), "# a chair"]
    )
    once = fed(clip, listed, images).compute()
    assert fed(clip, listed, images.flip(0), parts=3).compute() == once
    assert fed(clip, turned, images).compute() == once


def test_a_prompt_that_is_not_in_the_list_is_added_and_the_recipe_says_so(clip, listed, tmp_path):
    images = pictures(12)
    without = write(tmp_path / "without.txt", PROMPTS[1:])
    added, known = fed(clip, without, images), fed(clip, listed, images)
    assert added.compute() == known.compute()
    assert added.recipe()["own_prompt"] == "added to the list"
    assert known.recipe()["own_prompt"] == "in the list"
    assert added.recipe()["texts"] == known.recipe()["texts"] == 4
    assert added.recipe()["list_sha256"] != known.recipe()["list_sha256"]
    assert added.recipe()["clip"]["model"] == "clip"
    added.reset()  # the measurement is forgotten, of what it was is not
    assert added.recipe()["own_prompt"] == "added to the list"


def refused(clip, prompts, *, prompt="a red bear"):
    with pytest.raises(ConfigError) as caught:
        fed(clip, prompts, pictures(2), prompt=prompt)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_list_is_asked_for(clip, tmp_path):
    message = refused(clip, None)
    assert "clip-r-precision.prompts names no file" in message
    assert "cannot read the prompts" in refused(clip, str(tmp_path / "nowhere.txt"))


def test_a_list_with_no_other_prompt_is_refused(clip, tmp_path):
    alone = write(tmp_path / "alone.txt", ["# mine", "a red bear "])
    assert "has no other prompt than 'a red bear'" in refused(clip, alone)


def test_a_text_of_the_list_that_is_not_read_whole_is_refused(clip, tmp_path):
    long = write(tmp_path / "long.txt", ["a chair", "x" * 70])
    with pytest.raises(ConfigError, match="has 72 tokens"):
        fed(clip, long, pictures(2))
