"""The classifiers on tiny random models, against what transformers' own makes of them."""

import shutil
from importlib import import_module

import pytest
import torch

from sd_core.encoders.model_recipe import model_recipe
from sd_core.errors import ConfigError
from sd_metrics.classifiers import (
    ClassifierOptions,
    PictureClassifier,
    TextsClassifier,
    TrainedClassifier,
    build_classifier,
)
from sd_metrics.shared_models import shared_clip
from tiny_eyes import (
    CPU,
    LOG_SCALE,
    context,
    cosines_of_transformers,
    pictures,
    save_clip,
    save_dino,
    save_resnet,
    save_vit,
    standardised,
)

transformers = import_module("transformers")
TEXTS = ("a red bear", "a blue fox, side view", "chair")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {
        "resnet": save_resnet(root / "resnet", size=28),
        "vit": save_vit(root / "vit"),
        "clip": save_clip(root / "clip"),
        "dino": save_dino(root / "dino"),
    }


@pytest.mark.parametrize("name", ["resnet", "vit"])
def test_probabilities_of_a_trained_classifier_are_those_of_transformers(models, name):
    images = pictures(3)
    classifier = TrainedClassifier(str(models[name]), device=CPU)
    assert isinstance(classifier, PictureClassifier)
    found = classifier.probabilities(images)
    network = transformers.AutoModelForImageClassification.from_pretrained(models[name]).eval()
    with torch.no_grad():
        expected = network(standardised(images)).logits.double().softmax(dim=1)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(3, dtype=torch.float64))
    assert (found[0] - found[1]).abs().max() > 1e-3  # or nothing was compared
    assert classifier.recipe() == {
        "classifier": {"model": name, "sha256": classifier.recipe()["classifier"]["sha256"]},
        "classes": {"resnet": 5, "vit": 4}[name],
        "size": 28,
    }


def test_texts_are_told_apart_as_transformers_would(models):
    images = pictures(3)
    classifier = TextsClassifier(TEXTS, shared_clip(str(models["clip"]), CPU))
    assert isinstance(classifier, PictureClassifier)
    found = classifier.probabilities(images)
    scale = torch.tensor(LOG_SCALE).exp()
    expected = (scale * cosines_of_transformers(models["clip"], images, TEXTS)).softmax(dim=1)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert (found.amax(dim=1) - found.amin(dim=1)).min() > 0.05
    assert classifier.recipe()["classes"] == 3
    assert classifier.recipe()["texts"] == list(TEXTS)
    assert classifier.recipe()["clip"]["model"] == "clip"


def test_pictures_of_another_size_are_stretched_to_the_whole_square(models):
    classifier = TrainedClassifier(str(models["resnet"]), device=CPU)
    colour = torch.tensor([0.9, 0.3, 0.1])[None, :, None, None]
    small, usual = (classifier.probabilities(colour.expand(1, 3, n, n)) for n in (13, 28))
    torch.testing.assert_close(small, usual, rtol=1e-4, atol=1e-5)
    framed = torch.zeros(1, 3, 64, 64)
    framed[..., :4, :] = 1.0  # a crop to the middle would lose it
    black = classifier.probabilities(torch.zeros(1, 3, 64, 64))
    assert (classifier.probabilities(framed) - black).abs().max() > 1e-3


@pytest.mark.parametrize(("said", "size"), [({}, 224), ({"size": {"shortest_edge": 32}}, 32)])
def test_a_classifier_without_patches_has_the_size_of_its_processor_or_imagenets(
    tmp_path, said, size
):
    folder = save_resnet(tmp_path / "resnet", **said)
    assert TrainedClassifier(str(folder), device=CPU).recipe()["size"] == size


def test_the_told_classifier_comes_before_the_priors_and_that_before_its_texts(models):
    by_prior = context(classifier=models["resnet"], clip=models["clip"], classes=TEXTS)
    by_texts = context(classifier=None, clip=models["clip"], classes=TEXTS)
    told = ClassifierOptions(classifier=str(models["vit"]))
    for found, classes in (
        (build_classifier(told, by_prior), 4),
        (build_classifier(ClassifierOptions(), by_prior), 5),
        (build_classifier(ClassifierOptions(), by_texts), 3),
    ):
        assert found.probabilities(pictures(2)).shape == (2, classes)


def test_metrics_share_a_classifier_as_long_as_one_holds_it(models):
    by_prior, by_texts = (
        context(classifier=own, clip=models["clip"], classes=TEXTS)
        for own in (models["resnet"], None)
    )
    first, second = (build_classifier(ClassifierOptions(), by_prior) for _ in range(2))
    assert first is second
    texts = build_classifier(ClassifierOptions(), by_texts)
    assert texts is not first and build_classifier(ClassifierOptions(), by_texts) is texts
    clip = shared_clip(str(models["clip"]), CPU)
    assert shared_clip(str(models["clip"]), CPU) is clip


def refused(call, *arguments, **named):
    with pytest.raises(ConfigError) as caught:
        call(*arguments, **named)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_prior_with_neither_classifier_nor_texts_is_refused(models):
    for texts in ((), ("a bear",)):
        nothing = context(classifier=None, clip=models["clip"], classes=texts)
        message = refused(build_classifier, ClassifierOptions(), nothing)
        assert f"names no classifier of pictures, and {len(texts)} texts" in message
        assert "--set METRIC.classifier=" in message


def test_a_text_that_the_clip_cannot_read_whole_names_the_option(models):
    long = context(classifier=None, clip=models["clip"], classes=("a", "x" * 70))
    message = refused(build_classifier, ClassifierOptions(), long)
    assert "has 72 tokens" in message and "METRIC.classifier=" in message


def test_one_clip_serves_the_classifier_and_the_metrics_that_ask_it_for_texts(models):
    world = context(classifier=None, clip=models["clip"], classes=("a", "b"))
    classifier = build_classifier(ClassifierOptions(), world)
    assert classifier._clip is shared_clip(str(models["clip"]), CPU)


def test_a_network_without_a_head_is_refused(models):
    message = refused(TrainedClassifier, str(models["dino"]), device=CPU)
    assert "weights missing, such as classifier" in message


def test_one_class_is_refused(tmp_path):
    folder = save_resnet(tmp_path / "one", labels=1)
    assert "it has 1 class" in refused(TrainedClassifier, str(folder), device=CPU)


def test_pickled_weights_are_refused(models, tmp_path):
    folder = shutil.copytree(models["resnet"], tmp_path / "pickled")
    network = transformers.ResNetForImageClassification.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    torch.save(network.state_dict(), folder / "pytorch_model.bin")
    assert "cannot load the model" in refused(TrainedClassifier, str(folder), device=CPU)


def test_a_folder_is_named_by_its_content_and_a_model_of_the_hub_by_its_commit(
    models, tmp_path, monkeypatch
):
    same = shutil.copytree(models["resnet"], tmp_path / "same")
    other = shutil.copytree(models["resnet"], tmp_path / "other")
    (other / "preprocessor_config.json").write_text("{}", "utf-8")
    first, copy, changed = (model_recipe(str(each)) for each in (models["resnet"], same, other))
    assert first["model"] == "resnet" and copy["model"] == "same"
    assert first["sha256"] == copy["sha256"] != changed["sha256"]
    assert len(first["sha256"]) == 16
    commit = tmp_path / "hub" / "snapshots" / "0123abcd"
    shutil.copytree(models["resnet"], commit)
    monkeypatch.setenv("SD_CORE_MODEL_SOMEONE_RESNET", str(commit))
    assert model_recipe("someone/resnet") == {"model": "someone/resnet", "revision": "0123abcd"}
