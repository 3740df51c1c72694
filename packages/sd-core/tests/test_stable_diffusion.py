"""The Stable Diffusion prior against diffusers' own schedulers and pipelines, on tiny models."""

import importlib.util
import os

import pytest
import torch
from torch import Generator
from torch.nn import functional

os.environ["HF_HUB_OFFLINE"] = "1"  # before the hub is imported: it reads this once
if importlib.util.find_spec("diffusers") is None:
    pytest.skip("the extra [diffusers] is not installed", allow_module_level=True)

import diffusers

from sd_core.errors import ConfigError, ScoreDistillationError
from sd_core.estimator import EstimatorOptions
from sd_core.prior import PriorContext
from sd_core.priors.diffusion.stable_diffusion import StableDiffusionOptions, build
from sd_core.testing import exact
from sd_core.testing.contracts import PriorContract
from sd_core.testing.tiny_pipelines import FAMILIES, WINDOW
from sd_core.text_guidance import classifier_free_guidance

CPU = PriorContext(torch.device("cpu"))
TIMES = (20, 500, 980)
LONG = "a very long story of a red bear " * 4  # 104 letters, so 104 tokens of the tiny tokenizer


@pytest.fixture(scope="module")
def priors(folders):
    return {family: tiny_prior(folders[family]) for family in FAMILIES}


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture
def folder(folders, family):
    return folders[family]


@pytest.fixture
def prior(priors, family):
    return priors[family]


def tiny_prior(folder, **options):
    return build(StableDiffusionOptions(model=str(folder), **options), CPU)


def pictures(count=2, size=16):
    return torch.rand(count, 3, size, size, generator=Generator().manual_seed(1))


class TinyContract(PriorContract):
    """What every prior promises, and every family of models with it."""

    picture_size = (16, 16)

    @pytest.fixture
    def prior(self, priors):
        return priors[self.family]


class TestStableDiffusion1(TinyContract):
    family = "sd1"


class TestStableDiffusion2(TinyContract):
    family = "sd2-v"


class TestStableDiffusionXL(TinyContract):
    family = "sdxl"


def scheduler_of(folder, **changes):
    return diffusers.DDIMScheduler.from_pretrained(folder, subfolder="scheduler", **changes)


def test_the_schedule_is_the_schedulers_own(folder, prior):
    cumulative = scheduler_of(folder).alphas_cumprod.double()
    torch.testing.assert_close(prior.schedule.alphas**2, cumulative)
    torch.testing.assert_close(prior.schedule.sigmas**2, 1 - cumulative)


@pytest.mark.parametrize("time", TIMES)
def test_noise_is_what_the_schedulers_conversion_gives(folder, prior, time):
    """DDIM's own x0 from the network's output, taken back to ε."""
    noisy, t = exact.some_latents(prior, 2), torch.tensor([time, time])
    condition = prior.encode_text(["a red bear", ""])
    with torch.no_grad():
        output = prior.predict_output(noisy, t, condition)
        noise = prior.predict_noise(noisy, t, condition)
    scheduler = scheduler_of(folder)
    scheduler.set_timesteps(50)
    clean = scheduler.step(output, time, noisy).pred_original_sample
    alpha, sigma = prior.schedule.alpha(t, noisy), prior.schedule.sigma(t, noisy)
    torch.testing.assert_close(alpha * clean + sigma * noise, noisy, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("time", TIMES)
def test_a_scheduler_step_from_our_noise_is_its_step_from_the_output(folder, prior, time):
    noisy, t = exact.some_latents(prior, 2), torch.tensor([time, time])
    condition = prior.encode_text(["a red bear", ""])
    with torch.no_grad():
        output = prior.predict_output(noisy, t, condition)
        noise = prior.predict_noise(noisy, t, condition)
    theirs, ours = scheduler_of(folder), scheduler_of(folder, prediction_type="epsilon")
    for scheduler in (theirs, ours):
        scheduler.set_timesteps(50)
    torch.testing.assert_close(
        ours.step(noise, time, noisy).prev_sample,
        theirs.step(output, time, noisy).prev_sample,
        rtol=1e-4,
        atol=1e-4,
    )


@pytest.mark.parametrize("negative", ["", "blurry"])
@pytest.mark.parametrize("scale", [7.5, 100.0])
def test_guided_steps_equal_the_pipelines_own(folder, prior, scale, negative):
    """Two steps of diffusers' text-to-image call, from the same start."""
    start = exact.some_latents(prior, 1)
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder, use_safetensors=True)
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        "a red bear",
        # None is their way to ask SDXL for its own unconditional model, zeros.
        negative_prompt=negative or None,
        num_inference_steps=2,
        guidance_scale=scale,
        latents=start,
        output_type="latent",
    ).images
    scheduler = scheduler_of(folder, prediction_type="epsilon")
    scheduler.set_timesteps(2)
    texts = [prior.encode_text([text]) for text in (negative, "a red bear")]
    ours = start
    for time in scheduler.timesteps:
        with torch.no_grad():
            unconditional, text = prior.predict_noises(ours, time[None], texts)
        guided = classifier_free_guidance(unconditional, text, scale)
        ours = scheduler.step(guided, time, ours).prev_sample
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3 * float(theirs.abs().max()))


def test_text_is_encoded_as_the_pipeline_does(folder, family, prior):
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder, use_safetensors=True)
    theirs = pipeline.encode_prompt(
        "a red bear", device=CPU.device, num_images_per_prompt=1, do_classifier_free_guidance=True
    )
    text, empty = (prior.encode_text([prompt]).tensors for prompt in ("a red bear", ""))
    torch.testing.assert_close(text["text"], theirs[0])
    torch.testing.assert_close(empty["text"], theirs[1])
    if family == "sdxl":
        torch.testing.assert_close(text["pooled"], theirs[2])
        torch.testing.assert_close(empty["pooled"], theirs[3])
        assert text["sizes"].tolist() == [[16, 16, 0, 0, 16, 16]]


def test_an_encoded_picture_is_the_vaes_mean_in_the_models_scale(prior):
    vae = prior.codec.vae
    with torch.no_grad():
        theirs = vae.encode(2 * pictures() - 1).latent_dist.mode() * vae.config.scaling_factor
        torch.testing.assert_close(prior.encode(pictures()), theirs)
        decoded = vae.decode(theirs / vae.config.scaling_factor).sample / 2 + 0.5
        torch.testing.assert_close(prior.decode(theirs), decoded)


def test_pictures_of_another_size_are_resized_bilinearly(priors):
    prior, large = priors["sd1"], pictures(size=24)
    resized = functional.interpolate(large, (16, 16), mode="bilinear", align_corners=False)
    assert torch.equal(prior.encode(large), prior.encode(resized))


def test_a_posterior_sample_has_the_vaes_spread_and_needs_a_generator(folders):
    prior = tiny_prior(folders["sd1"], encode="sample")
    images = pictures(1).expand(400, -1, -1, -1)
    with torch.no_grad():
        posterior = prior.codec.vae.encode(2 * pictures(1) - 1).latent_dist
        drawn = prior.encode(images, generator=Generator().manual_seed(0)) / prior.codec.scale
        again = prior.encode(images, generator=Generator().manual_seed(0)) / prior.codec.scale
        mean = prior.encode(pictures(1)) / prior.codec.scale
    assert torch.equal(drawn, again)
    torch.testing.assert_close(mean, posterior.mean)
    z = (drawn - posterior.mean) / posterior.std
    assert z.mean().abs() < 0.01 and abs(float(z.std()) - 1) < 0.01


def test_gradients_reach_pictures_latents_and_noisy_latents(prior):
    images = pictures().requires_grad_(True)
    latents = prior.encode(images)
    noise = prior.predict_noise(
        latents, torch.tensor([10, 900]), prior.encode_text(["a red bear", ""])
    )
    prior.decode(noise).square().sum().backward()
    assert images.grad.isfinite().all() and images.grad.abs().sum() > 0


def test_the_model_is_frozen_and_text_carries_no_graph(prior):
    modules = (prior.network, prior.codec.vae)
    assert not any(p.requires_grad for module in modules for p in module.parameters())
    assert not any(part.training for module in modules for part in module.modules())
    tensors = prior.encode_text(["a red bear"]).tensors.values()
    assert not any(tensor.requires_grad for tensor in tensors)


def test_latents_are_taken_as_they_are(prior):
    latents = exact.some_latents(prior, 2)
    assert prior.encode(latents) is latents


def test_pictures_of_no_colour_are_refused(priors):
    with pytest.raises(ScoreDistillationError) as error:
        priors["sd1"].encode(torch.rand(1, 1, 16, 16))
    assert str(error.value) == (
        "the scene gave pictures of shape (1, 16, 16), expected 3 channels, or latents of shape "
        "(4, 8, 8). Choose another renderer, or its size."
    )


def test_each_prompt_is_encoded_once(folders):
    prior, asked = tiny_prior(folders["sd1"]), []
    load = prior.text._load

    def counted():
        encode = load()
        return lambda prompt: asked.append(prompt) or encode(prompt)

    prior.text._load = counted
    first = prior.encode_text(["a red bear", "", "a red bear"]).tensors["text"]
    again = prior.encode_text(["", "a red bear"]).tensors["text"]
    assert asked == ["a red bear", ""]
    assert torch.equal(first[:2], again.flip(0)) and torch.equal(first[0], first[2])


def test_the_cache_is_bounded(folders, monkeypatch):
    monkeypatch.setattr("sd_core.priors.diffusion.text_cache._ROWS", 2)
    prior = tiny_prior(folders["sd1"])
    prior.encode_text(["a", "b", "c"])
    assert list(prior.text._rows) == ["b", "c"]


def test_an_offloaded_text_encoder_comes_back_for_a_new_prompt(folders, priors):
    prior = tiny_prior(folders["sdxl"], offload_text_encoder=True)
    for prompts in (["a red bear", ""], ["", "a blue fox"]):
        ours = prior.encode_text(prompts)
        assert not prior.text.encoder_is_loaded
        theirs = priors["sdxl"].encode_text(prompts)
        assert all(torch.equal(ours.tensors[name], theirs.tensors[name]) for name in ours.tensors)
    assert priors["sdxl"].text.encoder_is_loaded


def test_a_long_prompt_is_read_in_windows_and_nothing_is_cut(priors):
    prior = priors["sd1"]
    text = prior.encode_text([LONG]).tensors["text"]
    letters = LONG.replace(" ", "")
    assert text.shape[1] == 2 * WINDOW and len(letters) > WINDOW - 2
    other_end = prior.encode_text([LONG.rstrip() + "y"]).tensors["text"]
    assert torch.equal(text[:, :WINDOW], other_end[:, :WINDOW])
    assert not torch.allclose(text[:, WINDOW:], other_end[:, WINDOW:])


def test_the_first_window_is_the_text_that_fits(priors):
    prior = priors["sd1"]
    whole = prior.encode_text(["b" * (WINDOW - 2)]).tensors["text"]
    assert whole.shape[1] == WINDOW
    assert prior.encode_text(["b " * (WINDOW - 1)]).tensors["text"].shape[1] == 2 * WINDOW


def test_texts_of_different_lengths_go_together_without_changing_each_other(prior):
    noisy, t = exact.some_latents(prior, 3), torch.tensor([10, 500, 900])
    texts = ["a red bear", LONG, LONG + LONG]  # 1, 2 and 3 windows
    together = prior.predict_noise(noisy, t, prior.encode_text(texts))
    conditions = [prior.encode_text([text] * 3) for text in texts]
    in_one_call = prior.predict_noises(noisy, t, conditions)
    for i, condition in enumerate(conditions):
        alone = prior.predict_noise(noisy, t, condition)
        torch.testing.assert_close(together[i], alone[i], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(in_one_call[i], alone, rtol=1e-4, atol=1e-4)


def test_long_prompts_are_refused_where_the_user_says_so(folder):
    prior = tiny_prior(folder, long_prompts="refuse")
    prior.encode_text(["b" * (WINDOW - 2)])
    with pytest.raises(ConfigError) as error:
        prior.encode_text(["b" * (WINDOW - 1)])
    assert str(error.value) == (
        f"the prompt '{'b' * (WINDOW - 1)}' has 76 tokens, but the text encoder reads 75 at a "
        'time. Shorten it, or set prior.long_prompts = "windows".'
    )


def test_another_model_is_loaded_without_its_vae_and_text_encoder(folders):
    prior = tiny_prior(folders["sd1"], picture_size=32)
    other = prior.other_model(str(folders["sd2-v"]))
    assert other.prediction_type == "v_prediction"
    assert other.latent_shape == prior.latent_shape == (4, 16, 16)
    assert "codec" not in vars(other) and not other.text.encoder_is_loaded


def test_its_estimator_starts_as_the_prior(prior):
    estimator = prior.new_estimator(view_conditioned=False, options=EstimatorOptions())
    noisy, t = exact.some_latents(prior, 2), torch.tensor([10, 900])
    condition = prior.encode_text(["a red bear", ""])
    from sd_core.noising import Noised

    noised = Noised(clean=noisy, noise=noisy, t=t, noisy=noisy)
    with torch.no_grad():
        learned = estimator.predict_noise(noised, condition, None)
        torch.testing.assert_close(learned, prior.predict_noise(noisy, t, condition))
