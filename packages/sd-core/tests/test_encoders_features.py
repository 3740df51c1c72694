"""The extractor on tiny random models, saved as the real ones are."""

import json
import sys
from importlib import import_module

import pytest
import torch
from torch import Generator

from sd_core.encoders.features import FeatureExtractor
from sd_core.errors import ConfigError
from sd_core.priors.diffusion.model_ids import variable_of

transformers = pytest.importorskip("transformers")
CPU = torch.device("cpu")
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
VISION = {
    "hidden_size": 16,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 7,
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """One folder for each layout: DINOv2, the same with three registers, CLIP, its eye alone."""
    root = tmp_path_factory.mktemp("models")
    text = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    text |= {"num_attention_heads": 1, "vocab_size": 5, "eos_token_id": 4, "bos_token_id": 3}
    eye = {**VISION, "intermediate_size": 24}
    registers = transformers.Dinov2WithRegistersConfig(**VISION, num_register_tokens=3)
    clip = transformers.CLIPConfig(text_config=text, vision_config=eye, projection_dim=12)
    eye_alone = transformers.CLIPVisionConfig(**eye)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        networks = {
            "dinov2": transformers.Dinov2Model(transformers.Dinov2Config(**VISION)),
            "registers": transformers.Dinov2WithRegistersModel(registers),
            "clip": transformers.CLIPModel(clip),
            "eye": transformers.CLIPVisionModel(eye_alone),
        }
        for name, network in networks.items():
            for weight in network.parameters():  # registers and class tokens begin at zero
                torch.nn.init.normal_(weight, std=0.2)
            network.save_pretrained(root / name)
            write_processor(root / name, image_mean=MEAN, image_std=STD)
    return {name: root / name for name in networks}


def write_processor(folder, **content):
    (folder / "preprocessor_config.json").write_text(json.dumps(content), "utf-8")


def pictures(side, *, batch=2, width=None):
    shape = (batch, 3, side, width or side)
    return torch.rand(shape, generator=Generator().manual_seed(1))


def standardised(images):
    """By hand, one channel after the other."""
    channels = [
        (images[:, index] - mean) / std
        for index, (mean, std) in enumerate(zip(MEAN, STD, strict=True))
    ]
    return torch.stack(channels, dim=1)


def by_hand(tokens, first):
    """Patch (row, column) is token first + 4·row + column."""
    rows = [[tokens[:, first + 4 * row + column] for column in range(4)] for row in range(4)]
    return torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)


@pytest.mark.parametrize(("name", "first"), [("dinov2", 1), ("registers", 4)])
def test_a_dino_gives_its_class_token_and_its_patches_without_registers(folders, name, first):
    images = pictures(28)
    features = FeatureExtractor(str(folders[name]), device=CPU)(images)
    network = transformers.AutoModel.from_pretrained(folders[name]).eval()
    tokens = network(standardised(images)).last_hidden_state
    torch.testing.assert_close(features.whole, tokens[:, 0])
    torch.testing.assert_close(features.patches, by_hand(tokens, first))


@pytest.mark.parametrize("name", ["clip", "eye"])
def test_a_clip_gives_its_class_token_and_the_patches_of_its_middle(folders, name):
    images = pictures(28)
    features = FeatureExtractor(str(folders[name]), device=CPU)(images)
    network = transformers.AutoModel.from_pretrained(folders[name]).eval()
    eye = network.vision_model if name == "clip" else network
    seen = eye(standardised(images), output_hidden_states=True)
    expected = eye.post_layernorm(seen.last_hidden_state[:, 0])
    torch.testing.assert_close(features.whole, expected)
    torch.testing.assert_close(features.patches, by_hand(seen.hidden_states[2], 1))


@pytest.mark.parametrize("name", ["dinov2", "registers", "clip", "eye"])
@pytest.mark.parametrize(("side", "width"), [(19, None), (64, None), (40, 23)])
def test_pictures_of_any_size_give_the_same_grid_and_are_frozen(folders, name, side, width):
    extractor = FeatureExtractor(str(folders[name]), device=CPU)
    features = extractor(pictures(side, width=width))
    assert features.patches.shape == (2, 4, 4, 16)
    assert not features.patches.requires_grad
    assert not extractor.network.training


@pytest.mark.parametrize("name", ["dinov2", "registers", "clip"])
def test_a_larger_size_gives_more_patches(folders, name):
    extractor = FeatureExtractor(str(folders[name]), device=CPU, size=42)
    assert extractor(pictures(30)).patches.shape == (2, 6, 6, 16)


def test_the_patches_stand_where_they_are_in_the_picture(folders):
    images = pictures(28, batch=1)
    changed = images.clone()
    changed[:, :, 7:14, 21:28] = 1 - changed[:, :, 7:14, 21:28]  # row 1, column 3
    extractor = FeatureExtractor(str(folders["clip"]), device=CPU)
    for layer in extractor.network.encoder.layers:  # no patch hears of another
        layer.self_attn.v_proj.weight.zero_()
    difference = (extractor(images).patches - extractor(changed).patches).abs().sum(dim=3)[0]
    assert difference[1, 3] > 1e-3
    difference[1, 3] = 0
    assert difference.max() < 1e-5


@pytest.mark.parametrize("name", ["dinov2", "registers", "clip"])
def test_gradients_reach_the_pictures_from_both_and_no_weight(folders, name):
    extractor = FeatureExtractor(str(folders[name]), device=CPU)
    images = pictures(40).requires_grad_()
    features = extractor(images)
    for part in (features.whole, features.patches):
        (slope,) = torch.autograd.grad(part.square().sum(), images, retain_graph=True)
        assert (slope != 0).float().mean() > 0.9
    assert not any(weight.requires_grad for weight in extractor.network.parameters())


def test_double_pictures_are_read_in_float32(folders):
    features = FeatureExtractor(str(folders["dinov2"]), device=CPU)(pictures(28).double())
    assert features.whole.dtype == torch.float32


@pytest.mark.parametrize(
    ("said", "size"),
    [
        ({"crop_size": {"height": 14, "width": 14}, "size": {"shortest_edge": 21}}, 14),
        ({"crop_size": 21}, 21),
        ({"size": {"shortest_edge": 35}}, 35),
        ({}, 28),
    ],
)
def test_the_size_is_what_the_processor_says_or_else_the_network(folders, tmp_path, said, size):
    for file in folders["dinov2"].iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "preprocessor_config.json").unlink()
    write_processor(tmp_path, image_mean=MEAN, image_std=STD, **said)
    assert FeatureExtractor(str(tmp_path), device=CPU).size == size


def refused(model, size=None):
    with pytest.raises(ConfigError) as caught:
        FeatureExtractor(str(model), device=CPU, size=size)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_size_that_the_patches_do_not_fill_is_refused(folders):
    assert "Set size to a multiple, such as 28." in refused(folders["dinov2"], size=30)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    message = refused(tmp_path / "nothing" / "here")
    assert "cannot load the model" in message and "no folder" in message


def test_a_model_that_is_not_in_the_cache_is_refused(tmp_path, monkeypatch):
    hub = import_module("huggingface_hub.constants")
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path))
    assert "HF_HUB_OFFLINE" in refused("nobody/has-this")


def test_the_environment_names_a_folder_for_an_id(folders, monkeypatch):
    monkeypatch.setenv(variable_of("nobody/has-this"), str(folders["dinov2"]))
    assert FeatureExtractor("nobody/has-this", device=CPU).size == 28


def test_a_folder_without_a_model_is_refused(tmp_path):
    assert "cannot load" in refused(tmp_path)


def test_a_model_without_processor_is_refused(folders, tmp_path):
    for file in folders["dinov2"].iterdir():
        if file.name != "preprocessor_config.json":
            (tmp_path / file.name).symlink_to(file)
    assert "no preprocessor_config.json" in refused(tmp_path)
    write_processor(tmp_path, size=28)
    assert "has no image_mean and image_std" in refused(tmp_path)


def test_pickled_weights_are_refused(folders, tmp_path):
    network = transformers.AutoModel.from_pretrained(folders["dinov2"])
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((folders["dinov2"] / name).read_bytes())
    torch.save(network.state_dict(), tmp_path / "pytorch_model.bin")
    assert "cannot load" in refused(tmp_path)


def test_weights_that_are_missing_are_refused(folders, tmp_path):
    from safetensors.torch import load_file, save_file

    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((folders["dinov2"] / name).read_bytes())
    weights = load_file(folders["dinov2"] / "model.safetensors")
    del weights["layernorm.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert "1 weights missing, such as layernorm.weight" in refused(tmp_path)


def test_a_network_without_plain_patches_is_refused(tmp_path):
    config = transformers.ViTConfig(**VISION, intermediate_size=8, num_register_tokens=2)
    transformers.ViTModel(config).save_pretrained(tmp_path)
    write_processor(tmp_path, image_mean=MEAN, image_std=STD)
    with pytest.raises(ConfigError, match="makes 17 tokens of 4² patches, expected 3 and"):
        FeatureExtractor(str(tmp_path), device=CPU)(pictures(28))


def test_a_network_that_cuts_no_patches_is_refused(tmp_path):
    config = transformers.ResNetConfig(
        embedding_size=4, hidden_sizes=[4, 4], depths=[1, 1], layer_type="basic"
    )
    transformers.ResNetModel(config).save_pretrained(tmp_path)
    write_processor(tmp_path, image_mean=MEAN, image_std=STD)
    assert "a resnet does not cut pictures into patches" in refused(tmp_path)


def test_without_transformers_the_error_says_what_to_install(folders, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert 'pip install "sd-core[diffusers]"' in refused(folders["dinov2"])
