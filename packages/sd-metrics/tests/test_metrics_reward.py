"""CLIP's cosine as a reward, against one pass of transformers' own model."""

import pytest
import torch

from sd_metrics.reward import ClipReward
from tiny_readers import CPU, cosines, pictures, save_clip


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return save_clip(tmp_path_factory.mktemp("clip"))


def test_scores_are_the_cosines_of_picture_and_prompt(clip):
    images = pictures(5)
    found = ClipReward(str(clip), CPU).scores(images, "a red bear")
    torch.testing.assert_close(found, cosines(clip, images, "a red bear"), rtol=1e-4, atol=1e-5)
    assert found.std() > 1e-3  # or nothing was compared


def test_a_picture_scores_the_same_alone(clip):
    reward, images = ClipReward(str(clip), CPU), pictures(3)
    alone = torch.cat([reward.scores(image[None], "a fox") for image in images])
    torch.testing.assert_close(reward.scores(images, "a fox"), alone, rtol=1e-4, atol=1e-6)


def test_no_gradient_is_kept(clip):
    images = pictures(1).requires_grad_()
    assert not ClipReward(str(clip), CPU).scores(images, "a fox").requires_grad


def test_the_recipe_names_the_model_by_its_weights(clip):
    recipe = ClipReward(str(clip), CPU).recipe()
    assert recipe["reward"] == "clip"
    assert recipe["clip"]["model"] == clip.name
    assert len(recipe["clip"]["sha256"]) == 16
