"""The networks: their shapes, their sizes, where they begin."""

import pytest
import torch

from sd_core.noising import NoiseSchedule
from sd_core.priors.diffusion.scheduler_config import prediction_of, schedule_of
from sd_toybox.model.networks import (
    FULL,
    TINY,
    initialised_from,
    new_clip,
    new_image_processor,
    new_scheduler,
    new_text_encoder,
    new_unet,
    new_vae,
    parameters_of,
)
from sd_toybox.model.tokenizer import WINDOW, new_tokenizer, token_rows
from untrained_models import some_pictures

BUILDERS = (new_vae, new_unet, new_text_encoder, new_clip)


@pytest.mark.parametrize("sizes", [FULL, TINY], ids=["full", "tiny"])
def test_pictures_of_64_are_latents_of_16_with_four_channels(sizes):
    vae = new_vae(sizes)
    with torch.no_grad():
        latents = vae.encode(some_pictures(1)).latent_dist.mean
        assert latents.shape == (1, 4, 16, 16)
        assert vae.decode(latents).sample.shape == (1, 3, 64, 64)


@pytest.mark.parametrize("sizes", [FULL, TINY], ids=["full", "tiny"])
def test_the_unet_reads_the_text_encoder(sizes):
    tokens = token_rows(new_tokenizer(), ["a red bear", ""])
    noisy, t = torch.randn(2, 4, 16, 16), torch.tensor([3, 900])
    with torch.no_grad():
        text = new_text_encoder(sizes)(tokens).last_hidden_state
        assert text.shape == (2, WINDOW, sizes.text_width)
        assert new_unet(sizes)(noisy, t, encoder_hidden_states=text).sample.shape == noisy.shape


def test_the_clip_model_gives_patches_and_logits():
    tokens = token_rows(new_tokenizer(), ["a red bear", "", "a blue bus"])
    with torch.no_grad():
        output = new_clip(FULL)(input_ids=tokens, pixel_values=some_pictures(2))
    assert output.logits_per_image.shape == (2, 3)
    patches = output.vision_model_output.last_hidden_state[:, 1:]
    assert patches.shape == (2, 8 * 8, FULL.clip_width)


def test_all_in_16_bits_is_well_below_25_megabytes():
    count = sum(parameters_of(build(FULL)) for build in BUILDERS)
    assert 10e6 < 2 * count < 20e6
    assert 3.5e6 < parameters_of(new_unet(FULL)) < 4.5e6


def test_a_vae_sees_no_further_than_its_convolutions():
    parts = {type(part).__name__ for part in new_vae(TINY).modules()}
    assert "Conv2d" in parts and "Attention" not in parts


@pytest.mark.parametrize("build", BUILDERS)
def test_networks_begin_alike_for_equal_seeds_and_leave_the_world_alone(build):
    before = torch.get_rng_state()
    states = []
    for seed in (0, 0, 1):
        with initialised_from(seed):
            states.append(torch.nn.utils.parameters_to_vector(build(TINY).parameters()))
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])
    assert torch.equal(torch.get_rng_state(), before)


def test_the_schedule_is_that_of_stable_diffusion():
    config = new_scheduler().config
    ours, known = schedule_of(config), NoiseSchedule.scaled_linear(1000, 0.00085, 0.012)
    torch.testing.assert_close(ours.alphas, known.alphas, rtol=0, atol=1e-6)
    assert prediction_of(config) == "epsilon"


def test_the_image_processor_makes_64_and_minus_one_to_one():
    red = torch.zeros(3, 128, 128, dtype=torch.uint8)
    red[0] = 255
    values = new_image_processor()(red.permute(1, 2, 0).numpy(), return_tensors="pt").pixel_values
    assert values.shape == (1, 3, 64, 64)
    expected = torch.tensor([1.0, -1.0, -1.0])[:, None, None].expand(3, 64, 64)
    torch.testing.assert_close(values[0], expected)
