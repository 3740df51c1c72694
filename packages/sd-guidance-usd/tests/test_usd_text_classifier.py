"""The zero-shot classifier on tiny random CLIPs, against what transformers' own makes of them."""

import json
import shutil
from dataclasses import replace
from importlib import import_module

import pytest
import torch
from torch import Generator

pytest.importorskip("diffusers")

from sd_core.baselines.vsd import VSD, VSDOptions
from sd_core.config import parse_options
from sd_core.errors import ConfigError
from sd_core.priors.image_bank import ImageBankPrior
from sd_core.step import Step
from sd_core.testing import exact
from sd_core.testing.tiny_pipelines import END, START, save_tiny_pipeline, tiny_prior
from sd_guidance_usd.classifier import PictureClassifier
from sd_guidance_usd.classifiers import build_text
from sd_guidance_usd.options import USDOptions
from sd_guidance_usd.text_classifier import TextClassifier
from sd_guidance_usd.usd import USD

transformers = import_module("transformers")  # by name: its types differ between releases
CPU = torch.device("cpu")
MEAN, STD = [0.48, 0.46, 0.41], [0.27, 0.26, 0.28]
TEXTS = {"man": "a man", "woman": "a photo of a woman", "neither": "a chair, front view"}
LAYERS = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}


def save_clip(folder, vocabulary, limit):
    """All but the tokenizer. Of large weights, so that texts and pictures tell."""
    text = {"vocab_size": len(vocabulary), "max_position_embeddings": limit, "hidden_size": 16}
    text |= {"bos_token_id": vocabulary[START], "eos_token_id": vocabulary[END], **LAYERS}
    eye = {"hidden_size": 20, "image_size": 28, "patch_size": 7, **LAYERS}
    with torch.random.fork_rng():
        torch.manual_seed(3)
        clip = transformers.CLIPModel(
            transformers.CLIPConfig(text_config=text, vision_config=eye, projection_dim=12)
        )
        for weight in clip.parameters():
            torch.nn.init.normal_(weight, std=0.4)
    clip.logit_scale.data.fill_(2.0)  # not what a fresh one has
    clip.save_pretrained(folder)
    processor = {"image_mean": MEAN, "image_std": STD}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor), "utf-8")


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    return save_tiny_pipeline(tmp_path_factory.mktemp("models") / "sd1", "sd1")


@pytest.fixture(scope="module")
def clip(tmp_path_factory, pipeline):
    """With the pipeline's tokenizer, which knows every letter, up to 32 tokens."""
    folder = tmp_path_factory.mktemp("clip")
    shutil.copytree(pipeline / "tokenizer", folder, dirs_exist_ok=True)
    save_clip(folder, transformers.AutoTokenizer.from_pretrained(folder).get_vocab(), 32)
    return folder


@pytest.fixture(scope="module")
def closed(tmp_path_factory):
    """With the letters of "bear" alone; its sign for any other is its end, as in CLIP's own."""
    folder = tmp_path_factory.mktemp("closed")
    signs = [*"bear", *(f"{letter}</w>" for letter in "bear"), START, END]
    vocabulary = {sign: number for number, sign in enumerate(signs)}
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 32, "bos_token": START}
    settings |= {"eos_token": END, "unk_token": END, "pad_token": END}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), "utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", "utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    save_clip(folder, vocabulary, 32)
    return folder


def pictures(side=28, batch=3):
    return torch.rand(batch, 3, side, side, generator=Generator().manual_seed(1))


def logits_of_transformers(folder, images, texts):
    """By one pass of the whole model over padded texts; double where the images are."""
    tokens = transformers.AutoTokenizer.from_pretrained(folder)(
        list(texts), padding=True, return_tensors="pt"
    )
    model = transformers.CLIPModel.from_pretrained(folder).eval().to(images.dtype)
    mean, std = (torch.tensor(each, dtype=images.dtype)[:, None, None] for each in (MEAN, STD))
    with torch.no_grad():
        return model(**tokens, pixel_values=(images - mean) / std).logits_per_image


def test_probabilities_are_those_of_transformers_and_sum_to_one(clip):
    images = pictures()
    classifier = TextClassifier(TEXTS, str(clip), device=CPU)
    assert isinstance(classifier, PictureClassifier)
    assert classifier.classes == ("man", "woman", "neither")
    found = classifier.log_probabilities(images).exp()
    expected = logits_of_transformers(clip, images, TEXTS.values()).softmax(dim=1)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(3))
    assert (found.amax(dim=1) - found.amin(dim=1)).min() > 0.05  # or nothing was compared


def test_a_temperature_takes_the_place_of_the_learned_scale(clip):
    images = pictures()
    found = TextClassifier(TEXTS, str(clip), device=CPU, temperature=0.25)
    cosines = logits_of_transformers(clip, images, TEXTS.values()) / torch.tensor(2.0).exp()
    expected = (cosines / 0.25).log_softmax(dim=1)
    torch.testing.assert_close(found.log_probabilities(images), expected, rtol=1e-5, atol=1e-5)


def test_its_slope_is_that_of_transformers_by_finite_differences(clip):
    images = pictures(batch=1).requires_grad_()
    classifier = TextClassifier(TEXTS, str(clip), device=CPU)
    (slope,) = torch.autograd.grad(classifier.log_probabilities(images)[0, 1], images)
    generator, step = Generator().manual_seed(2), 1e-5
    for _ in range(4):
        way = torch.randn(images.shape, generator=generator, dtype=torch.float64)
        ends = [
            logits_of_transformers(clip, images.detach().double() + sign * way, TEXTS.values())
            for sign in (step, -step)
        ]
        high, low = (end.log_softmax(dim=1)[0, 1] for end in ends)
        torch.testing.assert_close(
            (slope.double() * way).sum(), (high - low) / (2 * step), rtol=1e-3, atol=1e-5
        )


@pytest.mark.parametrize("side", [9, 64])
def test_one_colour_is_the_same_at_any_size(clip, side):
    colour = torch.tensor([0.9, 0.3, 0.1])[None, :, None, None]
    classifier = TextClassifier(TEXTS, str(clip), device=CPU)
    small, usual = (classifier.log_probabilities(colour.expand(1, 3, n, n)) for n in (side, 28))
    torch.testing.assert_close(small, usual, rtol=1e-4, atol=1e-4)


def test_a_larger_size_sees_more(clip):
    images = pictures(42)
    usual, larger = (
        TextClassifier(TEXTS, str(clip), device=CPU, size=size).log_probabilities(images)
        for size in (None, 42)
    )
    assert (usual - larger).abs().max() > 1e-3


def refused(model, texts=TEXTS):
    with pytest.raises(ConfigError) as caught:
        TextClassifier(texts, str(model), device=CPU)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_text_that_does_not_fit_is_refused(clip):
    longest = "x" * 30  # and a start and an end
    TextClassifier({"a": longest, "b": "b"}, str(clip), device=CPU)
    message = refused(clip, {"a": longest + "x", "b": "b"})
    assert "has 33 tokens" in message and "reads 32" in message


def test_a_word_outside_of_the_vocabulary_is_refused(closed):
    TextClassifier({"a": "a bear", "b": "bare"}, str(closed), device=CPU)
    message = refused(closed, {"a": "a bear", "b": "a bored bear"})
    assert "does not know 'bored' in the text 'a bored bear'" in message
    assert "does not know '<|endoftext|>'" in refused(closed, {"a": "a", "b": "a <|endoftext|>"})


def test_one_class_alone_is_refused(clip):
    assert "has 1 classes" in refused(clip, {"man": "a man"})


def copied(folder, to, without=()):
    for file in folder.iterdir():
        if file.name not in without:
            shutil.copy(file, to / file.name)
    return to


def test_a_clip_without_a_tokenizer_is_refused(clip, tmp_path):
    copied(clip, tmp_path, without=("tokenizer.json", "vocab.json", "merges.txt"))
    assert "neither tokenizer.json nor vocab.json" in refused(tmp_path)


def test_the_tokenizer_of_another_model_is_refused(clip, closed, tmp_path):
    for network, tokenizer in ((clip, closed), (closed, clip)):
        copied(tokenizer, tmp_path)
        for name in ("config.json", "model.safetensors"):
            shutil.copy(network / name, tmp_path / name)
        assert "not that of its network" in refused(tmp_path, {"a": "bear", "b": "bare"})


def test_the_eye_of_a_clip_alone_is_refused(clip, tmp_path):
    copied(clip, tmp_path, without=("config.json", "model.safetensors"))
    whole = transformers.CLIPModel.from_pretrained(clip)
    eye = transformers.CLIPVisionModel(whole.config.vision_config)
    eye.save_pretrained(tmp_path)
    assert "it is a clip_vision_model, and a whole CLIP is needed here" in refused(tmp_path)


def test_pickled_weights_are_refused(clip, tmp_path):
    copied(clip, tmp_path, without=("model.safetensors",))
    weights = transformers.CLIPModel.from_pretrained(clip).state_dict()
    torch.save(weights, tmp_path / "pytorch_model.bin")
    assert "cannot load" in refused(tmp_path)


def options(**values):
    return parse_options(USDOptions, values, where="guidance")


class Owner:
    """A prior of the exact kind with an encoder, which notes what it is asked to read."""

    def __init__(self, encoder, refuses=()):
        self.prior = ImageBankPrior(pictures(4), [["a"], ["b"], ["c"]])
        self.prior.image_encoder = str(encoder)
        self.prior.encode_text = self.encode_text
        self.refuses, self.asked = refuses, []

    def encode_text(self, prompts, cameras=None):
        self.asked += prompts
        if set(prompts) & set(self.refuses):
            raise ConfigError("not in the grammar")


def texts_read(owner, **classifier):
    """The texts that the prior was asked for, by a classifier that it lent its encoder."""
    config = options(classifier={"kind": "text", **classifier})
    found = build_text(config, exact.guidance_context(owner.prior, "a nurse"))
    return found, owner.asked


def test_the_priors_own_clip_reads_what_the_prior_reads(clip):
    phrases = {"man": "a male {prompt}", "woman": "female"}
    found, asked = texts_read(Owner(clip), phrases=phrases)
    assert asked == ["a male a nurse", "a nurse, female"]
    expected = TextClassifier(dict(zip(phrases, asked, strict=True)), str(clip), device=CPU)
    assert torch.equal(found.log_probabilities(pictures()), expected.log_probabilities(pictures()))
    _, asked = texts_read(Owner(clip), phrases={"m": "a man", "w": "a woman"}, whole_phrases=True)
    assert asked == ["a man", "a woman"]
    with pytest.raises(ConfigError, match="not in the grammar"):
        texts_read(Owner(clip, refuses=["a nurse, female"]), phrases=phrases)


def test_another_clip_reads_what_the_prior_does_not(clip, closed):
    found, asked = texts_read(Owner(closed), model=str(clip), size=14)
    assert asked == [] and found.classes == ("front", "side", "back")


def test_a_prior_whose_encoder_reads_no_texts_leaves_it_to_openais(clip, tmp_path, monkeypatch):
    copied(clip, tmp_path, without=("tokenizer.json", "vocab.json", "merges.txt"))
    hub = import_module("huggingface_hub.constants")
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ConfigError, match="model 'openai/clip-vit-large-patch14'"):
        texts_read(Owner(tmp_path))


def test_through_usd_it_adds_to_vsd_where_a_class_was_seen_too_often(clip, pipeline):
    prior, cameras = tiny_prior(pipeline), exact.some_cameras(2)
    told = {"kind": "text", "model": str(clip), "whole_phrases": True, "phrases": TEXTS}
    told["text_temperature"] = 0.1  # the tiny decoder leaves little slope
    config = options(classifier=told, limit="none", auxiliary="")
    context = exact.guidance_context(prior)
    context = replace(context, prompt=context.prompt.model_copy(update={"views": "none"}))
    latents = exact.some_latents(prior, 2)

    def gradient(method):
        generator = Generator().manual_seed(0)
        return method.gradient(latents, cameras, step=Step(0, 10), generator=generator).gradient

    vsd = gradient(VSD(VSDOptions(timesteps=config.timesteps), context))
    usd = USD(config, context)
    torch.testing.assert_close(gradient(usd), vsd)  # all were seen alike
    rounding = (gradient(usd) - vsd).norm()
    usd.marginal.shares[:] = torch.tensor([0.8, 0.1, 0.1])
    moved = gradient(usd)
    assert moved.isfinite().all()
    assert (moved - vsd).norm() > max(1e-3 * vsd.norm(), 100 * rounding)
