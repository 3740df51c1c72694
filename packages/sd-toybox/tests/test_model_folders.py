"""A saved model: diffusers, transformers and sd_core read the same numbers from it."""

import stat

import diffusers
import pytest
import torch
import transformers
from safetensors.torch import load_file

from sd_core.errors import ConfigError
from sd_core.prior import PriorContext
from sd_core.priors.diffusion.stable_diffusion import StableDiffusionOptions, build
from sd_toybox.model.folders import CLIP, find_folder, shipped_folder
from sd_toybox.model.tokenizer import new_tokenizer, token_rows
from untrained_models import some_pictures, untrained_networks

CPU = PriorContext(torch.device("cpu"))
HALF = {"rtol": 2e-3, "atol": 2e-3}  # of the weights' last bit, a few layers deep


@pytest.fixture(scope="module")
def networks():
    return untrained_networks()


@pytest.fixture(scope="module")
def prior(model_folder):
    return build(StableDiffusionOptions(model=str(model_folder)), CPU)


def test_all_weights_are_16_bit_and_anyone_may_read_them(model_folder):
    files = sorted(model_folder.rglob("*.safetensors"))
    assert len(files) == 5
    for path in files:
        assert {tensor.dtype for tensor in load_file(path).values()} == {torch.float16}
        assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert not [*model_folder.rglob("*.bin"), *model_folder.rglob("*.pkl")]


def test_the_prior_of_sd_core_predicts_what_was_saved(prior, networks):
    noisy, t = torch.randn(2, 4, 16, 16), torch.tensor([20, 900])
    prompts = ["a red bear, side view", ""]
    with torch.no_grad():
        text = networks["text_encoder"](token_rows(new_tokenizer(), prompts)).last_hidden_state
        saved = networks["unet"](noisy, t, encoder_hidden_states=text).sample
        loaded = prior.predict_noise(noisy, t, prior.encode_text(prompts))
    torch.testing.assert_close(loaded, saved, **HALF)


def test_the_prior_of_sd_core_encodes_and_decodes_as_what_was_saved(prior, networks):
    pictures, latents = some_pictures(2), torch.randn(2, 4, 16, 16)
    assert prior.latent_shape == (4, 16, 16)
    with torch.no_grad():
        encoded = networks["vae"].encode(2 * pictures - 1).latent_dist.mean
        decoded = networks["vae"].decode(latents).sample / 2 + 0.5
        torch.testing.assert_close(prior.encode(pictures), encoded, **HALF)
        torch.testing.assert_close(prior.decode(latents), decoded, **HALF)


def test_diffusers_own_pipeline_makes_a_picture(model_folder):
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(model_folder)
    pipeline.set_progress_bar_config(disable=True)
    made = pipeline("a red bear", num_inference_steps=2, output_type="np").images
    assert made.shape == (1, 64, 64, 3)


def test_transformers_reads_the_clip_model_with_the_same_numbers(model_folder, networks):
    folder = model_folder / CLIP
    model, info = transformers.CLIPModel.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    tokens = transformers.CLIPTokenizer.from_pretrained(folder)
    inputs = {
        "input_ids": token_rows(tokens, ["a red bear", "a blue bus"]),
        "pixel_values": 2 * some_pictures(2) - 1,
    }
    with torch.no_grad():
        loaded, saved = model(**inputs), networks["clip"](**inputs)
    torch.testing.assert_close(loaded.logits_per_image, saved.logits_per_image, **HALF)


def test_a_missing_model_says_how_it_is_made(tmp_path):
    with pytest.raises(ConfigError, match=r"no toybox model in .*`python -m sd_toybox\.train`"):
        find_folder(str(tmp_path))


def test_the_shipped_model_is_looked_for_in_the_package(monkeypatch, model_folder):
    assert shipped_folder().name == "weights" and shipped_folder().parent.name == "sd_toybox"
    monkeypatch.setattr("sd_toybox.model.folders.shipped_folder", lambda: model_folder)
    assert find_folder(None) == model_folder
