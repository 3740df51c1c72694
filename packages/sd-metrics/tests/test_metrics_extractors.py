"""What sees features in pictures, against the models that it is made of."""

import json
import shutil
from importlib import import_module

import pytest
import torch
from safetensors.torch import load_file, save_file

from metrics_worlds import MEAN, STD, clip_folder, rand, vit_folder
from sd_core.errors import ConfigError
from sd_metrics.extractors import ClipEncoder, InceptionEncoder, TokenEncoder, shared_encoder
from sd_metrics.inception import InceptionV3

transformers = import_module("transformers")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {"clip": clip_folder(root / "clip"), "features": vit_folder(root / "vit")}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "inception.safetensors"
    save_file(InceptionV3().state_dict(), path)
    return path


def standardised(images):
    mean, std = (torch.tensor(each)[:, None, None] for each in (MEAN, STD))
    return (images - mean) / std


def test_clips_features_are_its_embeddings_as_unit_vectors(folders):
    images = rand(3, 3, 28, 28)
    model = transformers.CLIPModel.from_pretrained(folders["clip"]).eval()
    with torch.no_grad():
        seen = model.vision_model(standardised(images)).pooler_output
        expected = model.visual_projection(seen)
    found = ClipEncoder(str(folders["clip"]), CPU).features(images)
    assert torch.allclose(found, expected / expected.norm(dim=1, keepdim=True), atol=1e-5)
    assert not found.requires_grad


def test_a_vision_transformers_features_are_its_class_token(folders):
    images = rand(3, 3, 28, 28)
    model = transformers.Dinov2Model.from_pretrained(folders["features"]).eval()
    with torch.no_grad():
        expected = model(standardised(images)).last_hidden_state[:, 0]
    found = TokenEncoder(str(folders["features"]), CPU).features(images)
    assert torch.allclose(found, expected, atol=1e-5) and not found.requires_grad


def test_inceptions_features_are_those_of_its_file(weights):
    images = rand(2, 3, 20, 20)
    encoder = InceptionEncoder(str(weights), CPU)
    network = InceptionV3().eval()
    network.load_state_dict(load_file(weights))
    with torch.no_grad():
        expected = network(images)
    assert torch.allclose(encoder.features(images.double()), expected, atol=1e-5)
    recipe = encoder.recipe()
    assert (recipe["kind"], len(recipe["sha256"])) == ("inception", 16)
    assert "antialias" in recipe["resize"]


def test_nothing_is_loaded_before_it_is_asked_for(weights):
    InceptionEncoder(str(weights), CPU)
    ClipEncoder("nowhere", CPU)
    nowhere = TokenEncoder("nowhere", CPU)
    with pytest.raises(ConfigError, match=r"^cannot load the model 'nowhere': "):
        nowhere.features(rand(1, 3, 8, 8))


def test_a_file_of_weights_that_is_not_there_is_told_at_once():
    with pytest.raises(ConfigError, match=r"^there is no file 'nowhere\.pth' with weights of "):
        InceptionEncoder("nowhere.pth", CPU)


@pytest.mark.parametrize("kind", ["clip", "features"])
def test_a_recipe_names_the_model_without_its_path_and_changes_with_every_file(
    folders, tmp_path, kind
):
    def recipe(folder):
        made = {"clip": ClipEncoder, "features": TokenEncoder}[kind](str(folder), CPU)
        return made.recipe()

    name = folders[kind].name

    def copied(place, source=folders[kind]):
        return shutil.copytree(source, tmp_path / place / name)

    first = recipe(copied("same"))
    assert first == recipe(folders[kind])
    assert first["kind"] == kind and first["model"] == name
    assert str(tmp_path) not in json.dumps(first)

    processor = {"image_mean": [0.5] * 3, "image_std": STD}
    other_input = copied("input")
    (other_input / "preprocessor_config.json").write_text(json.dumps(processor), "utf-8")
    made = {"clip": clip_folder, "features": vit_folder}[kind](tmp_path / "made", seed=7)
    other_weights = copied("weights", made)
    for other in (other_input, other_weights):
        assert recipe(other)["model"] == name and recipe(other) != first


def test_of_the_hubs_cache_the_revision_is_told(folders, tmp_path):
    revision = "0123456789abcdef0123456789abcdef01234567"
    folder = tmp_path / "snapshots" / revision
    shutil.copytree(folders["features"], folder)
    assert TokenEncoder(str(folder), CPU).recipe()["revision"] == revision


def test_metrics_that_ask_for_the_same_share_it_and_others_do_not(folders, weights):
    model = str(folders["clip"])
    one = shared_encoder("clip", model, CPU)
    assert shared_encoder("clip", model, CPU) is one
    assert shared_encoder("features", model, CPU) is not one
    kinds = {"clip": ClipEncoder, "features": TokenEncoder, "inception": InceptionEncoder}
    for kind, made in kinds.items():
        given = str(weights) if kind == "inception" else model
        assert type(shared_encoder(kind, given, CPU)) is made
