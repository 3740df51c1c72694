"""Diversity of particles, against loops over all pairs."""

from itertools import combinations, product
from math import log

import pytest
import torch
from torch import Generator

from sd_core.encoders.features import FeatureExtractor
from sd_core.errors import ConfigError
from sd_metrics.classifiers import ClassifierOptions, TrainedClassifier
from sd_metrics.diversity import (
    FeatureOptions,
    FeatureSimilarity,
    ParticleVariety,
    similarity_of_particles,
    variety_of_particles,
)
from tiny_eyes import CPU, context, pictures, save_dino, save_resnet

stats = pytest.importorskip("scipy.stats")


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    return save_resnet(tmp_path_factory.mktemp("models") / "resnet", size=28)


@pytest.fixture(scope="module")
def dino(tmp_path_factory):
    return save_dino(tmp_path_factory.mktemp("models") / "dino")


def random(*shape, seed=0):
    return torch.randn(*shape, generator=Generator().manual_seed(seed), dtype=torch.float64)


def looped_similarity(particles):
    """One pair of pictures after the other."""
    cosine = torch.nn.CosineSimilarity(dim=0)
    alike = len({len(each) for each in particles}) == 1
    of_pairs = []
    for one, other in combinations(particles, 2):
        views = zip(one, other, strict=True) if alike else product(one, other)
        cosines = [float(cosine(a, b)) for a, b in views]
        of_pairs.append(sum(cosines) / len(cosines))
    return sum(of_pairs) / len(of_pairs)


@pytest.mark.parametrize("views", [(4, 4, 4), (1, 1), (2, 5, 3), (1, 4)])
def test_the_similarity_is_that_of_a_loop_over_pairs(views):
    particles = [random(count, 7, seed=seed) + 0.5 for seed, count in enumerate(views)]
    pairs = "same-view" if len(set(views)) == 1 else "all"
    found = similarity_of_particles(particles, pairs)
    assert found == pytest.approx(looped_similarity(particles), rel=1e-9)
    assert similarity_of_particles(particles[::-1], pairs) == pytest.approx(found, rel=1e-12)


def test_copies_are_wholly_alike_though_their_views_are_not():
    views = random(5, 7)
    assert similarity_of_particles([views, 3 * views, views]) == pytest.approx(1.0)
    assert similarity_of_particles([views, -views]) == pytest.approx(-1.0)
    assert similarity_of_particles([views, views], "all") < 0.9


def test_features_that_stand_upright_on_each_other_are_not_alike():
    views = torch.eye(4)
    assert similarity_of_particles([views, views.roll(1, dims=0)]) == pytest.approx(0.0)


def test_the_variety_is_scipys_of_the_mean_over_particles_and_views():
    particles = [random(count, 5, seed=seed).softmax(dim=1) for seed, count in enumerate((3, 6, 1))]
    means = [sum(row for row in each) / len(each) for each in particles]
    expected = stats.entropy((sum(means) / 3).numpy())
    assert variety_of_particles(particles) == pytest.approx(expected, rel=1e-12)


def test_particles_that_are_each_another_class_have_variety_ln_n():
    particles = [torch.eye(6)[index].expand(4, -1) for index in range(3)]
    assert variety_of_particles(particles) == pytest.approx(log(3))
    assert variety_of_particles(particles[:1]) == 0
    assert variety_of_particles([particles[0][:1], particles[1]]) == pytest.approx(log(2))


def objects(*prompts, views=4):
    """An object of each prompt, all different."""
    return [(prompt, pictures(views, seed=seed)) for seed, prompt in enumerate(prompts)]


def measured(metric, told):
    metric.reset()
    for prompt, images in told:
        metric.update(images, prompt, None)
        metric.end_object("")
    return metric.compute()


def variety(resnet):
    return ParticleVariety(ClassifierOptions(classifier=str(resnet)), context())


def similarity(dino, **told):
    return FeatureSimilarity(FeatureOptions(**told), context(features=dino))


def test_iv_particles_is_the_mean_over_prompts(resnet):
    told = objects("a bear", "a fox", "a bear", "a fox", "a bear")
    classifier = TrainedClassifier(str(resnet), device=CPU)
    by_prompt = {"a bear": [], "a fox": []}
    for prompt, images in told:
        by_prompt[prompt].append(classifier.probabilities(images).mean(dim=0))
    each = [stats.entropy(torch.stack(rows).mean(dim=0)) for rows in by_prompt.values()]
    found = measured(variety(resnet), told)
    assert found == pytest.approx({"iv-particles": sum(each) / 2}, rel=1e-6)
    assert abs(each[0] - each[1]) > 1e-3  # or the mean over all would do


def test_feature_similarity_is_that_of_the_encoders_global_tokens(dino):
    told = objects("a bear", "a fox", "a bear", "a fox", "a bear", views=3)
    extractor = FeatureExtractor(str(dino), device=CPU)
    tokens = [(prompt, extractor(images).whole.double()) for prompt, images in told]
    each = [
        looped_similarity([token for prompt, token in tokens if prompt == wanted])
        for wanted in ("a bear", "a fox")
    ]
    found = measured(similarity(dino), told)
    assert found == pytest.approx({"feature-similarity": sum(each) / 2}, rel=1e-5)
    assert found == measured(similarity("nobody/nowhere", model=str(dino)), told)
    assert found["feature-similarity"] < 0.999


def test_orders_batches_and_what_was_before_a_reset_change_nothing(resnet, dino):
    told = objects("a bear", "a fox", "a bear", "a fox", views=18)
    for metric in (variety(resnet), similarity(dino)):
        once = measured(metric, told)
        assert measured(metric, told[::-1]) == pytest.approx(once, rel=1e-6)
        metric.update(pictures(18, seed=9), "a bear", None)
        metric.end_object("")
        assert metric.compute() != pytest.approx(once, rel=1e-6)
        assert measured(metric, told) == once


def test_a_prompt_with_one_object_has_no_similarity(dino):
    with pytest.raises(
        ConfigError, match="one object of 'a fox', and likeness is between two"
    ) as e:
        measured(similarity(dino), objects("a bear", "a bear", "a fox"))
    assert "several seeds" in str(e.value) and "\n" not in str(e.value)


def test_objects_of_other_numbers_of_pictures_are_compared_only_when_told_so(dino):
    told = [("a bear", pictures(3)), ("a bear", pictures(2))]
    with pytest.raises(
        ConfigError, match=r"'a bear' have 2 and 3 pictures, .*feature-similarity\.pairs=all"
    ):
        measured(similarity(dino), told)
    every = similarity(dino, pairs="all")
    assert 0 < measured(every, told)["feature-similarity"] < 1
    assert every.recipe()["pairs"] == "all"


def test_one_picture_of_a_prompt_has_no_variety(resnet):
    with pytest.raises(ConfigError, match="one picture of 'a fox', expected two or more"):
        measured(variety(resnet), [("a bear", pictures(3)), ("a fox", pictures(1))])
    assert measured(variety(resnet), objects("a bear"))["iv-particles"] > 0


def test_without_objects_it_is_refused(resnet):
    with pytest.raises(ConfigError, match="no object of any prompt yet"):
        variety(resnet).compute()


def test_they_are_of_a_method_and_say_with_what_they_looked(resnet, dino):
    metrics = variety(resnet), similarity(dino)
    assert {metric.scope for metric in metrics} == {"method"}
    assert [metric.higher_is_better for metric in metrics] == [True, False]
    assert metrics[0].recipe()["classifier"]["model"] == "resnet"
    assert metrics[1].recipe()["features"]["model"] == "dino"
    assert metrics[1].recipe()["size"] == 28
