"""IQ, IV and IG of views, against the classifier's own probabilities and scipy."""

from math import log

import numpy as np
import pytest
import torch

from sd_core.errors import ConfigError
from sd_core.testing.metric_contract import MetricContract
from sd_metrics.classifiers import ClassifierOptions, TrainedClassifier
from sd_metrics.inception_metrics import InceptionGain, InceptionQuality, InceptionVariety
from tiny_eyes import CPU, context, pictures, save_clip, save_resnet

stats = pytest.importorskip("scipy.stats")

CLASSES = tuple(f"a {word}" for word in ("bear", "fox", "chair", "house"))
ALL = (InceptionQuality, InceptionVariety, InceptionGain)


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    return save_resnet(tmp_path_factory.mktemp("models") / "resnet", size=28)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return save_clip(tmp_path_factory.mktemp("models") / "clip")


def measured(kind, model, images, *, parts=1):
    metric = kind(ClassifierOptions(classifier=str(model)), context())
    for part in images.chunk(parts):
        metric.update(part, "a red bear", None)
    return metric.compute()


class OfResnet(MetricContract):
    @pytest.fixture(autouse=True)
    def _folder(self, resnet):
        self.folder = resnet

    def make(self):
        return self.kind(ClassifierOptions(classifier=str(self.folder)), context())


class TestQuality(OfResnet):
    kind = InceptionQuality


class TestVariety(OfResnet):
    kind = InceptionVariety


class TestGain(OfResnet):
    kind = InceptionGain


class TestVarietyByTexts(MetricContract):
    @pytest.fixture(autouse=True)
    def _folder(self, clip):
        self.folder = clip

    def make(self):
        by_texts = context(classifier=None, clip=self.folder, classes=CLASSES)
        return InceptionVariety(ClassifierOptions(), by_texts)


def test_the_three_are_scipys_of_the_classifiers_probabilities(resnet):
    images = pictures(7)
    p = TrainedClassifier(str(resnet), device=CPU).probabilities(images).numpy()
    rows = [stats.entropy(row) for row in p]
    whole = stats.entropy(p.mean(axis=0))
    quality, variety, gain = (measured(kind, resnet, images) for kind in ALL)
    assert quality == pytest.approx({"iq": np.mean(rows)}, rel=1e-6)
    assert variety == pytest.approx({"iv": whole}, rel=1e-6)
    assert gain == pytest.approx({"ig": whole / np.mean(rows) - 1}, rel=1e-4)
    assert gain["ig"] > 0.01  # or nothing was compared
    metric = InceptionQuality(ClassifierOptions(classifier=str(resnet)), context())
    metric.update(images, "a bear", None)
    assert metric.deviations() == pytest.approx({"iq": np.std(rows, ddof=1)}, rel=1e-6)


@pytest.mark.parametrize("kind", ALL)
def test_neither_the_order_of_the_views_nor_how_they_come_changes_anything(resnet, kind):
    images = pictures(18)  # more than are looked at at once
    once = measured(kind, resnet, images)
    assert measured(kind, resnet, images.flip(0), parts=3) == pytest.approx(once, rel=1e-6)


def test_views_that_are_alike_gain_nothing(resnet):
    images = pictures(1).expand(5, -1, -1, -1)
    quality = measured(InceptionQuality, resnet, images)["iq"]
    assert measured(InceptionVariety, resnet, images)["iv"] == pytest.approx(quality, rel=1e-9)
    assert measured(InceptionGain, resnet, images)["ig"] == pytest.approx(0, abs=1e-9)


class Sorter:
    """Certain of every picture: its class is its red, in tenths."""

    def __init__(self, sharpness):
        self.sharpness = sharpness

    def probabilities(self, images):
        wanted = torch.nn.functional.one_hot((images[:, 0, 0, 0] * 10).round().long(), 10)
        return (self.sharpness * wanted.double()).softmax(dim=1)

    def recipe(self):
        return {"classes": 10}


def sorted_by(kind, sharpness, monkeypatch):
    monkeypatch.setattr(
        "sd_metrics.inception_metrics.build_classifier", lambda *_: Sorter(sharpness)
    )
    metric = kind(ClassifierOptions(), context())
    reds = torch.tensor([0.0, 0.1, 0.2, 0.9])[:, None, None, None]
    metric.update(reds.expand(-1, 3, 4, 4), "a bear", None)
    return metric.compute()


def test_views_that_are_each_certainly_another_class(monkeypatch):
    assert sorted_by(InceptionQuality, 1e6, monkeypatch) == {"iq": 0.0}
    assert sorted_by(InceptionVariety, 1e6, monkeypatch) == pytest.approx({"iv": log(4)})
    with pytest.raises(ConfigError, match="certain of every view, so IQ is 0") as caught:
        sorted_by(InceptionGain, 1e6, monkeypatch)
    assert "\n" not in str(caught.value) and "METRIC.classifier" in str(caught.value)
    assert sorted_by(InceptionGain, 30.0, monkeypatch)["ig"] > 1e9  # finite: it is given


@pytest.mark.parametrize("kind", [InceptionVariety, InceptionGain])
def test_one_view_has_no_variety(resnet, kind):
    with pytest.raises(ConfigError, match="there is 1 view of the object, expected 2 or more"):
        measured(kind, resnet, pictures(1))


def test_one_view_has_a_quality_and_no_deviation(resnet):
    metric = InceptionQuality(ClassifierOptions(classifier=str(resnet)), context())
    metric.update(pictures(1), "a bear", None)
    assert metric.compute()["iq"] > 0 and metric.deviations() == {}


def test_without_views_and_of_two_objects_it_is_refused(resnet):
    metric = InceptionQuality(ClassifierOptions(classifier=str(resnet)), context())
    with pytest.raises(ConfigError, match="no view of an object yet"):
        metric.compute()
    metric.update(pictures(2), "a bear", None)
    with pytest.raises(ConfigError, match="of 'a bear' and of 'a fox', expected one object"):
        metric.update(pictures(2), "a fox", None)
    metric.reset()
    metric.update(pictures(2), "a fox", None)


def test_pictures_without_colours_or_with_nan_are_refused(resnet):
    metric = InceptionQuality(ClassifierOptions(classifier=str(resnet)), context())
    with pytest.raises(ConfigError, match="have 4 channels, expected red, green and blue"):
        metric.update(torch.rand(2, 4, 8, 8), "a bear", None)
    with pytest.raises(ConfigError, match="hold NaN or infinity"):
        metric.update(torch.full((2, 3, 8, 8), torch.nan), "a bear", None)


def test_the_arrows_and_the_recipe(resnet):
    assert [kind.higher_is_better for kind in ALL] == [False, True, True]
    assert {kind.scope for kind in ALL} == {"object"}
    recipe = InceptionGain(ClassifierOptions(classifier=str(resnet)), context()).recipe()
    assert recipe["classifier"]["model"] == "resnet" and recipe["classes"] == 5
    assert recipe["logarithm"] == "natural"
