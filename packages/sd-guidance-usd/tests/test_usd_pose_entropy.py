"""The entropy of poses by templates, against the classifier that USD itself asks."""

from math import log

import pytest
import torch
from torch import Generator

from sd_core.encoders.features import FeatureExtractor
from sd_core.encoders.usual import Encoders
from sd_core.entries import MetricEntry
from sd_core.errors import ConfigError
from sd_core.metric import MetricContext
from sd_core.testing.metric_contract import MetricContract
from sd_guidance_usd.matching import MatchingClassifier
from sd_guidance_usd.pose_entropy import NAME, MatchingPoseEntropy, PoseEntropyOptions
from sd_guidance_usd.templates import load_pictures, save_pictures, with_mirrored
from tiny_world import encoder_folder

CPU = torch.device("cpu")
FEW = {"augmentations": 2, "grid": 4, "pose_temperature": 0.02}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return encoder_folder(tmp_path_factory.mktemp("models") / "dino")


@pytest.fixture(scope="module")
def templates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures") / "templates"
    random = torch.rand(3, 3, 28, 28, generator=Generator().manual_seed(2))
    save_pictures(folder, dict(zip(("back", "front", "side"), random, strict=True)))
    return folder


def pictures(count, seed=1):
    """Each of a colour of its own with squares of others, so that they are told apart."""
    generator = Generator().manual_seed(seed)
    squares = torch.rand(count, 3, 4, 4, generator=generator)
    colour = torch.rand(count, 3, 1, 1, generator=generator)
    return torch.nn.functional.interpolate((colour + squares) / 2, (28, 28))


def built(encoder, templates, **told):
    options = PoseEntropyOptions(templates=templates and str(templates), **{**FEW, **told})
    return MatchingPoseEntropy(options, MetricContext(CPU, Encoders(features=str(encoder))))


def measured(metric, images, *, parts=1):
    metric.reset()
    for part in images.chunk(parts):
        metric.update(part, "a toy", None)
    return metric.compute()


class TestMatchingPoseEntropy(MetricContract):
    @pytest.fixture(autouse=True)
    def _folders(self, encoder, templates):
        self.folders = encoder, templates

    def make(self):
        return built(*self.folders)


def test_it_is_the_entropy_of_what_the_matching_classifier_says(encoder, templates):
    images = pictures(6)
    classifier = MatchingClassifier(
        with_mirrored(load_pictures(templates), None),
        extractor=FeatureExtractor(str(encoder), device=CPU),
        options=PoseEntropyOptions(**FEW),
        generator=Generator().manual_seed(0),
    )
    mean = [0.0] * 4
    for row in classifier(images).tolist():
        mean = [m + p / 6 for m, p in zip(mean, row, strict=True)]
    expected = -sum(p * log(p) for p in mean)
    metric = built(encoder, templates)
    assert measured(metric, images) == pytest.approx({NAME: expected}, rel=1e-5)
    assert 0.05 < expected < log(4) - 0.01  # or nothing was compared


def test_neither_orders_nor_batches_nor_global_random_numbers_change_anything(encoder, templates):
    images = pictures(18)
    metric = built(encoder, templates)
    once = measured(metric, images)
    assert measured(metric, images.flip(0), parts=3) == pytest.approx(once, rel=1e-5)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        assert measured(built(encoder, templates), images) == once


def test_the_recipe_has_the_classes_their_pictures_and_the_maximum(encoder, templates, tmp_path):
    recipe = built(encoder, templates).recipe()
    assert recipe["classes"] == ["back", "front", "side", "mirrored_side"]
    assert recipe["maximum"] == pytest.approx(log(4))
    assert recipe["features"]["model"] == encoder.name
    plain = built(encoder, templates, mirrored=()).recipe()
    assert plain["maximum"] == pytest.approx(log(3))
    assert plain["templates_sha256"] == recipe["templates_sha256"]
    others = {name: 1 - picture for name, picture in load_pictures(templates).items()}
    save_pictures(tmp_path / "others", others)
    changed = built(encoder, tmp_path / "others").recipe()
    assert changed["templates_sha256"] != recipe["templates_sha256"]


def test_the_told_encoder_comes_before_the_priors(encoder, templates):
    metric = built("nobody/nowhere", templates, model=str(encoder))
    assert measured(metric, pictures(3)) == measured(built(encoder, templates), pictures(3))


def refused(call, *arguments, **told):
    with pytest.raises(ConfigError) as caught:
        call(*arguments, **told)
    message = str(caught.value)
    assert "\n" not in message and "guidance" not in message
    return message


def test_templates_are_asked_for_by_this_metrics_option(encoder, templates, tmp_path):
    message = refused(built, encoder, None)
    assert "score-distill templates" in message and f"--set {NAME}.templates=FOLDER" in message
    assert f"{NAME}.templates is '{tmp_path}', which has 0 pictures" in refused(
        built, encoder, tmp_path
    )
    wrong = refused(built, encoder, templates, mirrored=("left",))
    assert f"{NAME}.mirrored names 'left'" in wrong


def test_one_view_two_objects_and_pictures_of_other_kinds_are_refused(encoder, templates):
    metric = built(encoder, templates)
    assert "there are 0 views" in refused(metric.compute)
    assert "there are 1 views of the object, expected 2" in refused(measured, metric, pictures(1))
    assert "expected one object" in refused(metric.update, pictures(1), "a fox", None)
    metric.reset()
    assert "have 4 channels" in refused(metric.update, torch.rand(2, 4, 8, 8), "a toy", None)
    nothing = torch.full((2, 3, 8, 8), torch.nan)
    assert "not finite" in refused(metric.update, nothing, "a toy", None)


def test_it_can_be_offered_as_a_metric_of_its_name():
    entry = MetricEntry(
        name=NAME,
        summary="USD's pEnt",
        reference="",
        config="sd_guidance_usd.pose_entropy:PoseEntropyOptions",
        build="sd_guidance_usd.pose_entropy:MatchingPoseEntropy",
    )
    assert entry.load_config() is PoseEntropyOptions
    assert entry.load_build() is MatchingPoseEntropy
    assert MatchingPoseEntropy.higher_is_better and MatchingPoseEntropy.scope == "object"
