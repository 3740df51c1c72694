"""Templates: from a folder, mirrored, and chosen from what a prior makes."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Generator

from sd_core.encoders.features import Features
from sd_core.errors import ConfigError
from sd_core.priors.image_bank import ImageBankPrior
from sd_guidance_usd.candidates import choose_templates, most_typical
from sd_guidance_usd.templates import load_pictures, with_mirrored


def save(folder, name, seed, size=(6, 8)):
    pixels = torch.randint(256, (*size, 3), generator=Generator().manual_seed(seed)).byte().numpy()
    Image.fromarray(pixels).save(folder / name)
    return pixels.astype(np.float32) / 255


def plain_features(images):
    return Features(images.flatten(1), images.movedim(1, -1))


def test_each_picture_of_a_folder_is_a_class_named_by_its_file(tmp_path):
    front, side = save(tmp_path, "front.png", 0), save(tmp_path, "side.png", 1)
    (tmp_path / "notes.txt").write_text("not a picture")
    found = with_mirrored(load_pictures(tmp_path), ("side",))
    assert found.classes == ("front", "side", "mirrored_side")
    for picture, pixels in zip(found.pictures, (front, side, side[:, ::-1]), strict=True):
        assert np.array_equal(picture.movedim(0, -1).numpy(), pixels)


def test_pictures_of_other_sizes_are_stretched(tmp_path):
    front = save(tmp_path, "front.png", 0)
    Image.new("RGB", (4, 5), (51, 102, 204)).save(tmp_path / "back.png")
    found = load_pictures(tmp_path)
    assert np.array_equal(found["front"].movedim(0, -1).numpy(), front)
    assert found["back"].shape == found["front"].shape
    flat = torch.tensor([51, 102, 204]).view(3, 1, 1) / 255
    torch.testing.assert_close(found["back"], flat.expand_as(found["back"]))


def test_a_folder_without_two_pictures_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="which has 0 pictures"):
        load_pictures(tmp_path)
    save(tmp_path, "front.png", 0)
    (tmp_path / "back.png").write_bytes(b"no picture")
    with pytest.raises(ConfigError, match="cannot read the picture"):
        load_pictures(tmp_path)


def test_two_templates_of_one_class_are_refused(tmp_path):
    for name in ("back.png", "front.png", "front.webp"):
        save(tmp_path, name, 0)
    with pytest.raises(ConfigError, match=r"both front.png and front.webp .* templates of 'front'"):
        load_pictures(tmp_path)


def test_what_is_cut_out_stands_on_white(tmp_path):
    save(tmp_path, "front.png", 0)
    Image.new("RGBA", (8, 6), (0, 0, 0, 0)).save(tmp_path / "back.png")
    assert load_pictures(tmp_path)["back"].min() == 1


def test_a_mirrored_side_of_ones_own_is_the_class_of_that_name():
    pictures = {name: torch.rand(3, 2, 2) for name in ("front", "mirrored_side", "side")}
    found = with_mirrored(pictures, None)
    assert found.classes == ("front", "mirrored_side", "side")
    assert torch.equal(found.pictures[1], pictures["mirrored_side"])
    with pytest.raises(ConfigError, match="names 'side', but there is a class 'mirrored_side' alr"):
        with_mirrored(pictures, ("side",))
    with pytest.raises(ConfigError, match="names 'front', but there is a class 'mirrored_front'"):
        with_mirrored(pictures, ("front", "front"))


def test_only_templates_that_are_there_can_be_mirrored():
    with pytest.raises(ConfigError, match="names 'side', but the templates are front, back"):
        with_mirrored({"front": torch.zeros(3, 2, 2), "back": torch.ones(3, 2, 2)}, ("side",))


def test_sides_are_mirrored_unless_told():
    pictures = {name: torch.rand(3, 2, 2) for name in ("front", "side", "back")}
    found = with_mirrored(pictures, None)
    assert found.classes == ("front", "side", "back", "mirrored_side")
    assert torch.equal(found.pictures[3], pictures["side"].flip(-1))
    assert with_mirrored(pictures, ()).classes == ("front", "side", "back")
    assert with_mirrored({"up": pictures["side"]}, None).classes == ("up",)


def test_the_most_typical_is_the_one_nearest_to_all_others():
    features = torch.randn(9, 5, generator=Generator().manual_seed(0))
    features[:6] += torch.tensor([5.0, 0, 0, 0, 0])  # the rest is what the text got wrong
    nearness = [
        sum(float(torch.cosine_similarity(one, other, dim=0)) for other in features)
        for one in features
    ]
    assert most_typical(features) == nearness.index(max(nearness)) < 6
    assert most_typical(features * torch.arange(1, 10)[:, None]) == most_typical(features)


def test_a_template_is_chosen_from_the_priors_own_pictures_of_its_text():
    pictures = torch.rand(3, 3, 4, 4, generator=Generator().manual_seed(1))
    prior = ImageBankPrior(pictures, [["front"], ["side"], ["back"]])
    texts = {"a": "front", "b": "back"}
    chosen, again = (
        choose_templates(
            prior, texts, plain_features, candidates=9, generator=Generator().manual_seed(0)
        )
        for _ in range(2)
    )
    assert chosen.keys() == {"a", "b"}
    torch.testing.assert_close(chosen["a"], pictures[0], atol=0.05, rtol=0)
    torch.testing.assert_close(chosen["b"], pictures[2], atol=0.05, rtol=0)
    assert all(torch.equal(chosen[name], again[name]) for name in texts)
