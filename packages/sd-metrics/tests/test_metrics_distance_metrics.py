"""fid, clip-fid, kid and ufid: which pictures they compare, and what they tell of it."""

import json
import logging
from importlib import import_module
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from torch import Generator

from metrics_worlds import MEAN, STD, clip_folder, rand, reference_folder, save, vit_folder
from sd_core.config import parse_options
from sd_core.encoders.usual import Encoders
from sd_core.errors import ConfigError
from sd_core.metric import MetricContext
from sd_core.testing import exact
from sd_core.testing.metric_contract import MetricContract
from sd_metrics import distance_metrics
from sd_metrics.distance_metrics import ClipFid, Fid, Kid, Ufid, pose_balanced
from sd_metrics.distance_options import ClipFidOptions, FidOptions, KidOptions, UfidOptions
from sd_metrics.extractors import ClipEncoder, TokenEncoder
from sd_metrics.frechet import frechet_distance
from sd_metrics.inception import InceptionV3
from sd_metrics.kernel_distance import kernel_distance
from sd_metrics.moments import Moments
from sd_metrics.reference import Reference

CPU = torch.device("cpu")
POSES = ("front view", "side view", "back view")
OPTIONS = {Fid: FidOptions, ClipFid: ClipFidOptions, Kid: KidOptions, Ufid: UfidOptions}
BEAR, FOX = exact.PROMPT, "a fox"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A context with tiny encoders, and a reference of two prompts with seven pictures each."""
    root = tmp_path_factory.mktemp("world")
    encoders = Encoders(
        clip=str(clip_folder(root / "clip")), features=str(vit_folder(root / "vit")), poses=POSES
    )
    pictures = reference_folder(root / "ref", (BEAR, FOX))
    return SimpleNamespace(
        context=MetricContext(CPU, encoders), folder=root / "ref", pictures=pictures, root=root
    )


@pytest.fixture(scope="module")
def make(world):
    def new(kind, **told):
        values = {"reference": str(world.folder), **told}
        return kind(parse_options(OPTIONS[kind], values, where="metric"), world.context)

    return new


@pytest.fixture
def colours(monkeypatch):
    """In the place of CLIP: a picture's pose is the strongest of its red, green and blue."""

    class Colours:
        clip = SimpleNamespace(
            texts=lambda texts: torch.eye(3)[[POSES.index(each.split(", ")[1]) for each in texts]]
        )

        def __init__(self, model, device):
            self.model = model

        def features(self, images):
            return images.mean(dim=(2, 3))

        def recipe(self):
            return {"kind": "colours", "model": self.model}

    monkeypatch.setattr(distance_metrics, "ClipEncoder", Colours)


def views(seed=0, count=5):
    return rand(count, 3, 8, 8, seed=seed)


def measure(metric, *objects):
    for prompt, images in objects:
        metric.update(images, prompt, None)
    return metric.compute()


def encoded(world, images, kind="features"):
    encoder = {"features": TokenEncoder, "clip": ClipEncoder}[kind]
    return encoder(getattr(world.context.encoders, kind), CPU).features(images)


def frechet(world, images, others, kind="features"):
    return frechet_distance(
        Moments.of(encoded(world, images, kind)), Moments.of(encoded(world, others, kind))
    )


# the numbers


def test_fid_is_the_frechet_distance_of_all_views_to_all_pictures_of_their_prompts(world, make):
    one, two, three = views(1), views(2), views(3, 4)
    found = measure(make(Fid), (BEAR, one), (FOX, two), (BEAR, three))
    known = torch.cat([world.pictures[BEAR], world.pictures[FOX]])
    expected = frechet(world, torch.cat([one, two, three]), known)
    assert found == {"fid": pytest.approx(expected, rel=1e-5)} and expected > 0.1


def test_pictures_of_other_prompts_do_not_count(world, make):
    found = measure(make(Fid), (FOX, views()))
    expected = frechet(world, views(), world.pictures[FOX])
    assert found["fid"] == pytest.approx(expected, rel=1e-5)
    assert found["fid"] != pytest.approx(frechet(world, views(), world.pictures[BEAR]), rel=1e-2)


def test_prompts_are_forgotten_with_their_views(make):
    metric = make(Fid)
    measure(metric, (BEAR, views(1)))
    metric.reset()
    assert measure(metric, (FOX, views())) == measure(make(Fid), (FOX, views()))


def test_clip_fid_is_that_of_clips_embeddings(world, make):
    expected = frechet(world, views(), world.pictures[BEAR], "clip")
    assert measure(make(ClipFid), (BEAR, views())) == {"clip-fid": pytest.approx(expected, 1e-5)}


@pytest.mark.parametrize("kind", ["features", "clip"])
def test_kid_is_the_kernel_distance_of_the_chosen_features(world, make, kind):
    expected = kernel_distance(
        encoded(world, views(), kind), encoded(world, world.pictures[BEAR], kind)
    )
    found = measure(make(Kid, extractor=kind), (BEAR, views()))
    assert found == {"kid": pytest.approx(expected, rel=1e-4)}
    assert make(Kid).deviations() == {}


def test_kid_in_subsets_has_a_deviation_and_the_same_seed_gives_the_same(make):
    told = {"subset_size": 3, "subsets": 4}
    one, same, other = (make(Kid, **told, seed=seed) for seed in (1, 1, 2))
    found = measure(one, (BEAR, views()))
    assert set(found) == {"kid"} and one.deviations()["kid"] > 0
    assert found == one.compute() == measure(same, (BEAR, views()))
    assert found != measure(other, (BEAR, views()))
    assert {"subsets": 4, "subset_size": 3}.items() <= one.recipe().items()


def test_many_pictures_are_taken_in_subsets_untold(make, monkeypatch):
    monkeypatch.setattr(distance_metrics, "ALL_AT_ONCE", 4)
    metric = make(Kid)
    measure(metric, (BEAR, views()))
    assert metric.deviations()["kid"] > 0
    assert metric.recipe()["subset_size"] == 4


def test_the_pictures_of_the_reference_are_at_no_distance_from_it(world, make):
    found = measure(make(Fid), (FOX, world.pictures[FOX]))
    assert 0 <= found["fid"] < 1e-6


def test_what_is_outside_of_zero_to_one_is_seen_as_its_border(make):
    wild = views() * 3 - 1
    assert measure(make(Fid), (BEAR, wild)) == measure(make(Fid), (BEAR, wild.clamp(0, 1)))


@pytest.mark.parametrize("kind", OPTIONS)
def test_pooled_it_is_asked_once_for_a_method_else_for_each_object(make, kind):
    assert make(kind).scope == "method" and make(kind, pooled=False).scope == "object"
    assert make(kind).higher_is_better is False
    assert make(kind).wanted_cameras(distance=2.0, vertical_fov_deg=40.0) is None


# every pose as often


def test_as_many_of_each_pose_are_drawn_as_there_are_pictures_to_each():
    poses = torch.tensor([0, 0, 0, 0, 0, 1, 2, 2])
    drawn = pose_balanced(poses, POSES, Generator().manual_seed(0))
    assert torch.equal(poses[drawn].bincount(), torch.tensor([3, 3, 3]))
    again = pose_balanced(poses, POSES, Generator().manual_seed(0))
    assert torch.equal(drawn, again)
    many = [pose_balanced(poses, POSES, Generator().manual_seed(seed)) for seed in range(60)]
    assert torch.equal(torch.cat(many).unique(), torch.arange(8))
    assert any(len(each[:3].unique()) < 3 for each in many)  # with replacement


def test_a_pose_that_no_picture_has_is_named():
    with pytest.raises(ConfigError, match=r"^none of the 3 pictures .* is seen 'side view', as "):
        pose_balanced(torch.tensor([0, 2, 2]), POSES, Generator())


def test_ufid_compares_with_the_drawn_pictures(world, make, colours):
    metric = make(Ufid, seed=4, pose_model="mine")
    found = measure(metric, (BEAR, views(1)), (FOX, views(2)))
    known = torch.cat([world.pictures[BEAR], world.pictures[FOX]])
    poses = known.mean(dim=(2, 3)).argmax(dim=1)
    drawn = known[pose_balanced(poses, POSES, Generator().manual_seed(4))]
    expected = frechet(world, torch.cat([views(1), views(2)]), drawn)
    assert found == {"ufid": pytest.approx(expected, rel=1e-5)}
    recipe = metric.recipe()
    assert recipe["poses"] == {"front view": 6, "side view": 4, "back view": 4}
    assert recipe["reference_pictures"] == 15
    assert recipe["pose_encoder"] == {"kind": "colours", "model": "mine"}


def test_ufid_does_not_depend_on_the_order_of_the_objects(make, colours):
    one, other = (BEAR, views(1)), (FOX, views(2))
    found = [measure(make(Ufid, seed=4), *told) for told in ((one, other), (other, one))]
    assert found[0] == pytest.approx(found[1], rel=1e-6)


def test_ufid_draws_from_the_pictures_of_its_prompts_alone(world, make, colours):
    known = world.pictures[FOX]
    drawn = pose_balanced(known.mean(dim=(2, 3)).argmax(dim=1), POSES, Generator().manual_seed(4))
    expected = frechet(world, views(), known[drawn])
    found = measure(make(Ufid, seed=4), (FOX, views()))
    assert found == {"ufid": pytest.approx(expected, rel=1e-5)}


def test_a_picture_has_the_pose_whose_text_with_its_prompt_transformers_clip_likes_best(
    world, make
):
    transformers = import_module("transformers")
    folder = world.context.encoders.clip
    model = transformers.CLIPModel.from_pretrained(folder).eval()
    read = transformers.AutoTokenizer.from_pretrained(folder)
    mean, std = (torch.tensor(each)[:, None, None] for each in (MEAN, STD))
    expected = []
    for prompt in (BEAR, FOX):
        large = torch.nn.functional.interpolate(
            world.pictures[prompt], (28, 28), mode="bilinear", antialias=True
        )
        texts = [f"{prompt}, {pose}" for pose in POSES]
        with torch.no_grad():
            told = model(
                **read(texts, padding=True, return_tensors="pt"), pixel_values=(large - mean) / std
            )
        expected += told.logits_per_image.argmax(dim=1).tolist()
    metric = make(Ufid)
    served = metric.reference.pictures_of_all([BEAR, FOX])
    assert metric._poses_of(served).tolist() == expected


def test_without_captions_the_pose_is_told_by_the_one_prompt_that_there_is(make, colours, tmp_path):
    for index in range(6):
        picture = torch.full((3, 8, 8), 0.2)
        picture[index % 3] = 0.5 + index / 12
        save(tmp_path / f"{index}.png", picture)
    metric = make(Ufid, reference=str(tmp_path))
    measure(metric, ("a whale", views()))
    assert metric.recipe()["poses"] == dict.fromkeys(POSES, 2)
    metric.update(views(), "a fox", None)
    with pytest.raises(ConfigError, match=r"has no captions\.json, so nobody knows of which of 2 "):
        metric.compute()


# what they tell


def test_its_recipe_names_the_encoder_and_the_reference(world, make):
    metric = make(Fid)
    measure(metric, (FOX, views()))
    metric.reset()
    recipe = metric.recipe()
    assert (recipe["encoder"]["kind"], recipe["encoder"]["model"]) == ("features", "vit")
    assert recipe["reference"]["sha256"] == Reference.open(world.folder).digest
    assert (recipe["pictures"], recipe["reference_pictures"]) == (5, 7)
    json.dumps(recipe, allow_nan=False)


def test_a_number_that_no_published_one_compares_with_says_so(make):
    for kind, what in ((Fid, "no published FID"), (Ufid, "no published FID")):
        assert what in make(kind).recipe()["warning"]
    assert "no published KID" in make(Kid).recipe()["warning"]
    assert "unit vectors" in make(ClipFid).recipe()["warning"]


def test_with_inception_only_the_number_of_pictures_is_worth_a_warning(make, tmp_path, monkeypatch):
    monkeypatch.setattr(distance_metrics, "frechet_distance", lambda one, other: 7.0)  # or slow
    save_file(InceptionV3().state_dict(), tmp_path / "inception.safetensors")
    weights = str(tmp_path / "inception.safetensors")
    for index in range(2):
        save(tmp_path / "two" / f"{index}.png", rand(3, 8, 8, seed=index))
    metric = make(Fid, weights=weights, reference=str(tmp_path / "two"))
    assert "warning" not in metric.recipe() and metric.recipe()["encoder"]["kind"] == "inception"
    assert "warning" not in make(Kid, weights=weights).recipe()
    assert measure(metric, (FOX, views(count=2))) == {"fid": 7.0}
    assert metric.recipe()["warning"].startswith("2 pictures were compared with 2 of the reference")


def test_too_few_pictures_are_logged_once_and_stay_in_the_recipe(make, caplog):
    metric = make(Fid)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            measure(metric, (FOX, views()))
            metric.reset()
    few = "5 pictures were compared with 7 of the reference by 16 features"
    assert caplog.text.count(few) == 1 and few in metric.recipe()["warning"]
    measure(metric, (BEAR, views(count=17)), (FOX, views(count=3)))
    assert "20 pictures were compared with 14" in metric.recipe()["warning"]


# mistakes


@pytest.mark.parametrize(
    ("kind", "told", "message"),
    [
        (Fid, {"weights": "a.pth", "model": "b"}, "weights are for Inception, and model is for a "),
        (Kid, {"extractor": "inception"}, "the extractor inception needs a file: tell weights"),
        (Kid, {"extractor": "clip", "weights": "a"}, "weights are for Inception, but the extract"),
        (Fid, {"weights": "nowhere.pth"}, "there is no file '"),
        (Fid, {"reference": "nowhere"}, "there is no folder '"),
        (Kid, {"subset_size": 1}, "metric.subset_size is 1, but it should be greater than or "),
    ],
    ids=str,
)
def test_options_that_do_not_fit_are_told_when_it_is_made(make, kind, told, message):
    with pytest.raises(ConfigError, match=message):
        make(kind, **told)


def test_paths_are_the_same_from_everywhere(world, monkeypatch):
    monkeypatch.chdir(world.root)
    options = parse_options(FidOptions, {"reference": "ref", "weights": "w.pth"}, where="fid")
    assert options.reference == str(world.folder)
    assert options.weights == str(world.root / "w.pth")


def test_a_prompt_that_the_reference_has_not_is_told_before_the_work(make):
    metric = make(Fid, model="nowhere")  # which would be loaded for the views
    with pytest.raises(ConfigError, match="has no picture of 'a whale'"):
        metric.update(views(), "a whale", None)


@pytest.mark.parametrize(("kind", "what"), [(Fid, "no covariance"), (Kid, "no kernel distance")])
def test_one_view_is_too_few(make, kind, what):
    with pytest.raises(ConfigError, match=what):
        measure(make(kind), (BEAR, views(count=1)))


def test_none_at_all_is_told(make):
    with pytest.raises(ConfigError, match="no picture was compared with the reference"):
        make(Fid).compute()


# the contract


class TestFid(MetricContract):
    @pytest.fixture(autouse=True)
    def _world(self, make):
        self.make = lambda: make(Fid)


class TestClipFid(MetricContract):
    @pytest.fixture(autouse=True)
    def _world(self, make):
        self.make = lambda: make(ClipFid)


class TestKid(MetricContract):
    @pytest.fixture(autouse=True)
    def _world(self, make):
        self.make = lambda: make(Kid, subset_size=4)


class TestUfid(MetricContract):
    @pytest.fixture(autouse=True)
    def _world(self, make, colours):
        self.make = lambda: make(Ufid)
