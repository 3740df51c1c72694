"""Captions against the prompt: words counted by hand, and judges that say too much."""

import sys
from dataclasses import replace
from types import ModuleType

import pytest

from sd_core.config import parse_options
from sd_core.encoders.usual import USUAL
from sd_core.errors import ConfigError
from sd_core.metric import AbstractMetric, MetricContext
from sd_core.testing.metric_contract import MetricContract
from sd_metrics.captioner import BlipCaptioner
from sd_metrics.t3_alignment import (
    T3Alignment,
    T3AlignmentOptions,
    content_words,
    load_judge,
    recall,
    scaled,
    singular,
)
from tiny_readers import CPU, cosines, pictures, save_blip, save_clip

CLASSES = ("a red bear", "a blue bear", "a red fox", "a blue fox on a fox")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return save_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture
def judge(monkeypatch):
    """Whatever `answer` says, and what it was asked."""
    module = ModuleType("judge_of_tests")
    module.asked = []
    module.answer = lambda prompt, captions: 4

    def rate(prompt, captions):
        module.asked.append((prompt, captions))
        return module.answer(prompt, captions)

    module.rate, module.number = rate, 3
    monkeypatch.setitem(sys.modules, "judge_of_tests", module)
    return module


def made(clip, **values):
    options = parse_options(T3AlignmentOptions, values, where="t3-alignment")
    encoders = replace(USUAL, clip=str(clip), classes=CLASSES, captioner=None)
    return T3Alignment(options, MetricContext(CPU, encoders))


def refused(call):
    with pytest.raises(ConfigError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    return message


class TestAlignment(MetricContract):
    @pytest.fixture(autouse=True)
    def _model(self, clip):
        self.clip = clip

    def make(self) -> AbstractMetric:
        return made(self.clip)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A red bear, on the left.", "red bear left"),
        ("A beagle in a detective’s outfit", "beagle detective outfit"),
        ("A child's teddy-bear", "child teddy bear"),
        ("two bears and a bear", "two bear"),
        ("A 3D printed bust, 8K", "3d printed bust 8k"),
        ("Ein großer_Bär", "ein großer bär"),
        ("It is on the.", ""),
    ],
)
def test_content_words_are_lower_case_without_small_words_and_signs(text, words):
    assert content_words(text) == set(words.split())


@pytest.mark.parametrize(
    ("one", "many"),
    [
        ("bear", "bears"),
        ("house", "houses"),
        ("vase", "vases"),
        ("glass", "glasses"),
        ("box", "boxes"),
        ("brush", "brushes"),
        ("watch", "watches"),
        ("berry", "berries"),
        ("cookie", "cookies"),
        ("pie", "pies"),
        ("cat", "cats"),
    ],
)
def test_one_and_many_are_the_same_word(one, many):
    assert singular(one) == singular(many)


@pytest.mark.parametrize("word", ["gas", "bus", "cactus", "iris", "glass", "dress", "moss"])
def test_what_only_looks_like_many_keeps_its_end(word):
    assert singular(word) == word


def test_recall_is_the_share_of_words_that_some_caption_says():
    assert recall("a red bear", ["a red bear"]) == 1
    assert recall("a red bear", ["a bear", "something red and blue"]) == 1
    assert recall("a red bear", ["a blue bear", "two bears"]) == 0.5
    assert recall("a red bear on a red rug", ["A RED thing"]) == pytest.approx(1 / 3)
    assert recall("a red bear", ["", "the"]) == 0
    assert recall("a red bear", []) == 0


def test_a_prompt_of_small_words_alone_is_refused():
    assert "'it is on the'" in refused(lambda: recall("it is on the", ["a"]))


def test_without_a_judge_it_is_the_recall_of_the_nearest_texts(clip):
    images = pictures(5)
    alike = [cosines(clip, images, text) for text in CLASSES]
    said = [CLASSES[max(range(4), key=lambda i: float(alike[i][v]))] for v in range(5)]
    prompt = said[0] + " on a zebra"
    expected = 100 * recall(prompt, said)
    assert 0 < expected < 100
    metric = made(clip)
    metric.update(images, prompt, None)
    assert metric.compute() == {"t3-alignment-recall": pytest.approx(expected)}


def test_a_judge_is_asked_once_with_every_caption_and_rates_on_t3benchs_scale(clip, judge):
    metric = made(clip, judge="judge_of_tests:rate")
    for some in pictures(4).split(2):
        metric.update(some, "a red bear", None)
    assert metric.compute() == {"t3-alignment": 75.0}
    ((prompt, captions),) = judge.asked
    assert prompt == "a red bear" and len(captions) == 4 and set(captions) <= set(CLASSES)


def test_the_scale_is_that_of_the_papers_tables():
    assert [scaled(rating) for rating in (1.0, 1.96, 3.0, 5.0)] == pytest.approx([0, 24, 50, 100])


@pytest.mark.parametrize("answer", [0, 5.5, True, "4", None, float("nan")])
def test_a_judge_that_gives_something_else_is_refused(clip, judge, answer):
    judge.answer = lambda prompt, captions: answer
    metric = made(clip, judge="judge_of_tests:rate")
    metric.update(pictures(1), "a red bear", None)
    assert f"gave {answer!r}, expected a number from 1 to 5" in refused(metric.compute)


def test_a_judge_that_fails_is_told_in_one_line(clip, judge):
    def fails(prompt, captions):
        raise OSError("no route\nto host")

    judge.answer = fails
    metric = made(clip, judge="judge_of_tests:rate")
    metric.update(pictures(1), "a red bear", None)
    assert "'judge_of_tests:rate' failed: OSError: no route to host" in refused(metric.compute)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("judge_of_tests", "expected the form 'package.module:name'"),
        ("judge of tests:rate", "expected the form 'package.module:name'"),
        ("no_such_module_at_all:rate", "ModuleNotFoundError"),
        ("judge_of_tests:none", "AttributeError"),
        ("judge_of_tests:number", "is 3, expected a function"),
    ],
)
def test_a_judge_that_cannot_be_had_is_refused_at_once(judge, name, reason):
    assert reason in refused(lambda: load_judge(name))


def test_a_judge_is_looked_for_before_any_model_is(judge):
    options = T3AlignmentOptions(judge="judge_of_tests:none", captioner="/no/such/folder")
    assert "AttributeError" in refused(lambda: T3Alignment(options, MetricContext(CPU)))


def test_a_captioner_that_is_named_writes_the_captions(clip, judge, tmp_path):
    folder, images = save_blip(tmp_path), pictures(2)
    metric = made(clip, captioner=str(folder), judge="judge_of_tests:rate")
    metric.update(images, "a red bear", None)
    metric.compute()
    assert judge.asked[0][1] == BlipCaptioner(str(folder), CPU).captions(images)


def test_no_views_and_two_prompts_are_refused(clip):
    metric = made(clip)
    assert "no view" in refused(metric.compute)
    metric.update(pictures(1), "a red bear", None)
    assert "expected one object" in refused(lambda: metric.update(pictures(1), "a fox", None))
    metric.reset()
    assert "no view" in refused(metric.compute)


def test_it_wants_the_twelve_corners_unless_told_otherwise(clip):
    for values, count in (({}, 12), ({"subdivision": 1}, 42)):
        cameras = made(clip, **values).wanted_cameras(distance=3.0, vertical_fov_deg=40.0)
        assert cameras is not None and len(cameras) == count


def test_the_recipe_says_who_wrote_and_who_judged(clip, judge):
    recipe = made(clip).recipe()
    assert recipe["captioner"]["texts"] == list(CLASSES)
    assert recipe["judge"] is None and "recall" in recipe["scale"]
    assert made(clip, judge="judge_of_tests:rate").recipe()["scale"] == "25·(rating - 1)"
