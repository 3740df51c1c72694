"""ImageReward with tiny random weights under the published names, against its formulas by hand."""

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Generator

from published_image_reward import KNOWN, SIDE, published_weights, reward_by_hand
from sd_core.config import parse_options
from sd_core.errors import ConfigError
from sd_core.metric import MetricContext
from sd_metrics.image_reward import ImageReward, image_input, load_network, renamed
from sd_metrics.t3_quality import T3Quality, T3QualityOptions
from tiny_readers import CPU, END, START, WORDS, pictures, save_tokenizer

assert len(WORDS) == KNOWN
TOKENS = torch.tensor([[WORDS.index(word) for word in (START, "a", "red", "bear", END)]])


@pytest.fixture(scope="module")
def weights():
    return published_weights()


@pytest.fixture(scope="module")
def file(tmp_path_factory, weights):
    path = tmp_path_factory.mktemp("weights") / "ImageReward.pt"
    torch.save(weights, path)
    return path


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return str(save_tokenizer(tmp_path_factory.mktemp("tokenizer")))


def refused(call):
    with pytest.raises(ConfigError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    return message


def saved(folder, weights):
    torch.save(weights, folder / "ImageReward.pt")
    return folder / "ImageReward.pt"


def pixels(count=3):
    return torch.randn(count, 3, SIDE, SIDE, generator=Generator().manual_seed(2))


def test_the_network_is_the_published_one_written_out(file, weights):
    with torch.no_grad():
        found = load_network(file)(pixels(), TOKENS)
    expected = reward_by_hand(weights, pixels(), TOKENS, torch.ones(5))
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)
    assert expected.std() > 0.01  # the pictures are told apart


def test_padding_to_35_as_the_published_code_does_changes_nothing(weights):
    padded = torch.cat([TOKENS, torch.zeros(1, 30, dtype=torch.long)], dim=1)
    attended = torch.cat([torch.ones(5), torch.zeros(30)])
    with_padding = reward_by_hand(weights, pixels(), padded, attended)
    without = reward_by_hand(weights, pixels(), TOKENS, torch.ones(5))
    torch.testing.assert_close(with_padding, without)


def test_every_weight_is_taken_and_only_those_that_are_no_part_are_left_out(weights):
    left = {
        "blip.vision_proj.weight",
        "blip.vision_proj.bias",
        "blip.text_proj.weight",
        "blip.text_proj.bias",
        "blip.text_encoder.embeddings.position_ids",
    }
    assert len(renamed(weights)) == len(weights) - len(left)
    assert left <= weights.keys()


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("mlp.layers.4.bias", "head.4.bias"),
        ("mlp.", "no weights called head.0.weight"),
        ("blip.visual_encoder.cls_token", "eye.embeddings.class_embedding"),
        ("blip.visual_encoder.norm", "no weights called eye.post_layernorm.weight"),
        ("blip.text_encoder.encoder.layer.1.crossattention.self.key", "crossattention.self.key"),
    ],
)
def test_weights_that_are_missing_are_named(tmp_path, weights, theirs, ours):
    rest = {name: value for name, value in weights.items() if not name.startswith(theirs)}
    assert ours in refused(lambda: load_network(saved(tmp_path, rest)))


def test_a_weight_too_many_is_refused(tmp_path, weights):
    more = {**weights, "blip.visual_encoder.head.weight": torch.zeros(2, 2)}
    assert "head.weight" in refused(lambda: load_network(saved(tmp_path, more)))


def test_what_is_no_table_of_tensors_is_refused(tmp_path):
    assert "no table of tensors" in refused(lambda: load_network(saved(tmp_path, [1, 2])))
    assert "no table of tensors" in refused(lambda: load_network(saved(tmp_path, {"model": {}})))
    assert "cannot load" in refused(lambda: load_network(saved(tmp_path, {"a": WithCode()})))
    (tmp_path / "text.pt").write_text("no weights")
    assert "text.pt" in refused(lambda: load_network(tmp_path / "text.pt"))
    (tmp_path / "text.safetensors").write_text("no weights")
    assert "text.safetensors" in refused(lambda: load_network(tmp_path / "text.safetensors"))
    assert "No such file" in refused(lambda: load_network(tmp_path / "none.pt"))


class WithCode:
    """What a pickle could run code with."""


def test_safetensors_hold_the_same(tmp_path, file, weights):
    save_file(weights, tmp_path / "reward.safetensors")
    with torch.no_grad():
        found = load_network(tmp_path / "reward.safetensors")(pixels(), TOKENS)
        assert torch.equal(found, load_network(file)(pixels(), TOKENS))


def test_loading_draws_no_random_numbers_of_others(file):
    before = torch.get_rng_state()
    load_network(file)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("size", [(40, 40), (60, 40), (40, 61)])
def test_pictures_are_brought_to_size_as_pillow_does_it(size):
    width, height = size
    coarse = torch.rand(1, 3, 7, 9, generator=Generator().manual_seed(3))
    image = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    levels = (image * 255).round()
    pillow = Image.fromarray(levels[0].permute(1, 2, 0).byte().numpy())
    pillow = pillow.resize((16 * width // 40, 16 * height // 40), Image.Resampling.BICUBIC)
    left, top = round((pillow.width - 16) / 2), round((pillow.height - 16) / 2)
    cut = pillow.crop((left, top, left + 16, top + 16))
    expected = torch.tensor(list(cut.tobytes()), dtype=torch.float32).view(16, 16, 3) / 255
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711])
    found = image_input(levels / 255, 16)[0].permute(1, 2, 0) * std + mean
    torch.testing.assert_close(found, expected, rtol=0, atol=1.5 / 255)


def test_a_picture_of_the_models_size_is_only_normalised():
    image = pictures(1, side=16)
    found = image_input(image, 16)
    assert found[0, 0, 3, 5] == pytest.approx((float(image[0, 0, 3, 5]) - 0.48145466) / 0.26862954)


def test_scores_read_the_prompt_with_its_start_and_end(file, tokenizer, weights):
    images = pictures(3, side=20)
    found = ImageReward(str(file), tokenizer, device=CPU).scores(images, "a red bear")
    expected = reward_by_hand(weights, image_input(images, SIDE), TOKENS, torch.ones(5))
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)


def test_a_prompt_that_is_too_long_is_refused(file, tokenizer):
    reward, images = ImageReward(str(file), tokenizer, device=CPU), pictures(1)
    reward.scores(images, "bear " * 33)
    message = refused(lambda: reward.scores(images, "bear " * 34))
    assert "has 36 tokens, but ImageReward reads 35" in message


def test_the_tokenizer_of_another_model_is_refused(tmp_path, tokenizer, weights):
    name = "blip.text_encoder.embeddings.word_embeddings.weight"
    file = saved(tmp_path, {**weights, name: weights[name][:6]})
    reward = ImageReward(str(file), tokenizer, device=CPU)
    message = refused(lambda: reward.scores(pictures(1), "a red bear"))
    assert "not the tokenizer of these weights" in message


def test_the_quality_of_pictures_as_they_are_is_twenty_times_the_mean_reward_and_fifty(
    file, tokenizer
):
    told = {"reward": "image-reward", "weights": str(file), "tokenizer": tokenizer}
    options = parse_options(T3QualityOptions, {**told, "views": "as-given"}, where="t3-quality")
    metric, images = T3Quality(options, MetricContext(CPU)), pictures(3)
    metric.update(images, "a red bear", None)
    rewards = ImageReward(str(file), tokenizer, device=CPU).scores(images, "a red bear")
    expected = 20 * float(rewards.mean()) + 50
    assert metric.compute() == {"t3-quality": pytest.approx(expected)}
    recipe = metric.recipe()
    assert recipe["weights"] == "ImageReward.pt" and len(recipe["sha256"]) == 16
    assert recipe["t3bench_definition"] is False
    options = parse_options(T3QualityOptions, {**told, "subdivision": 2}, where="t3-quality")
    assert T3Quality(options, MetricContext(CPU)).recipe()["t3bench_definition"] is True
