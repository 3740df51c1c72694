"""The judge that asks the CLIP model, here an untrained one."""

import pytest
import torch

from meter_views import ring
from sd_core.errors import ConfigError
from sd_core.metric import MetricContext
from sd_toybox.meter.clip_pose_judge import ClipPoseJudge
from sd_toybox.meter.janus_faces import JanusFaces
from sd_toybox.meter.orbit_metric import MeterOptions
from sd_toybox.meter.pose_judge import ToyName
from sd_toybox.model.folders import CLIP
from sd_toybox.world.kinds import COLOURS, KINDS
from sd_toybox.world.pictures import world_pictures

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def judge(model_folder):
    return ClipPoseJudge(model_folder / CLIP, CPU)


def test_it_says_what_the_model_and_the_head_say(judge):
    cameras = ring(8)
    views = world_pictures("cat", "red", cameras)
    reading = judge.read(views, ToyName("cat", "red"), cameras)
    reader = judge._reader
    model, head = reader.model, reader.head
    with torch.no_grad():
        pooled = model.vision_model(2 * views - 1).pooler_output
        logits = pooled @ head.weight.T + head.bias
        vectors = model.get_image_features(2 * views - 1).pooler_output
        words = model.text_projection(reader.texts)
        cosines = torch.nn.functional.cosine_similarity(vectors[:, None], words[None], dim=-1)
        shares = torch.softmax(model.logit_scale.exp() * cosines, dim=1)
    torch.testing.assert_close(reading.posterior, logits.exp() / logits.exp().sum(1, keepdim=True))
    cat = [n for n in range(len(KINDS) * len(COLOURS)) if n // len(COLOURS) == KINDS.index("cat")]
    torch.testing.assert_close(reading.likeness, shares[:, cat].sum(dim=1))


def test_pictures_of_another_size_are_resized_and_batches_are_put_together(judge, monkeypatch):
    cameras = ring(8)
    large = world_pictures("cat", "red", cameras, 96)
    whole = judge.read(large, ToyName("cat", "red"), cameras)
    monkeypatch.setattr("sd_toybox.model.clip_reader._AT_ONCE", 3)
    parts = judge.read(large, ToyName("cat", "red"), cameras)
    torch.testing.assert_close(whole.posterior, parts.posterior)
    torch.testing.assert_close(whole.likeness, parts.likeness)
    assert whole.posterior.shape == (8, 24)


def test_a_metric_takes_it_by_name(model_folder):
    options = MeterOptions(judge="clip", folder=str(model_folder))
    metric = JanusFaces(options, MetricContext(CPU))
    metric.update(world_pictures("cat", "red", ring()), "a red cat", ring())
    numbers = metric.compute()
    assert 0 <= numbers["janus-faces"] <= 4
    assert 0 < numbers["likeness"] < 1


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(ConfigError, match="there is no toybox model in"):
        JanusFaces(MeterOptions(judge="clip", folder=str(tmp_path)), MetricContext(CPU))
