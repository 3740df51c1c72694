"""References: which pictures serve a prompt, how they are read, and features that are kept."""

import json
import logging
import os

import numpy as np
import pytest
import torch
from PIL import Image

from metrics_worlds import rand, reference_folder, save
from sd_core.errors import ConfigError
from sd_core.picture_folder import read_picture
from sd_metrics.reference import Reference


class Pixels:
    """An encoder that counts: the mean colour of a picture."""

    def __init__(self, name="pixels"):
        self.name, self.seen = name, []

    def features(self, images):
        self.seen.append(tuple(images.shape))
        return images.mean(dim=(2, 3))

    def recipe(self):
        return {"kind": self.name}


@pytest.fixture
def folder(tmp_path):
    reference_folder(tmp_path / "ref")
    return tmp_path / "ref"


def write(folder, captions):
    text = captions if isinstance(captions, str) else json.dumps(captions)
    (folder / "captions.json").write_text(text, "utf-8")


def kept(folder):
    return sorted((folder / "features").glob("*.safetensors"))


# which pictures


def test_a_prompt_is_served_by_the_pictures_that_name_it(folder):
    write(folder, {"fox1.png": "a fox", "bear0.png": ["a bear", " a fox "], "bear2.png": "a bear"})
    reference = Reference.open(folder)
    assert reference.names == ("fox1.png", "bear0.png", "bear2.png")
    assert reference.pictures_of("a fox") == [0, 1]
    assert reference.pictures_of("a bear") == [1, 2]


def test_several_prompts_are_served_by_each_picture_once_with_the_first(folder):
    write(folder, {"fox1.png": "a fox", "bear0.png": ["a bear", "a fox"], "bear2.png": "a bear"})
    reference = Reference.open(folder)
    assert reference.pictures_of_all(["a bear", "a fox", "a bear"]) == {
        1: "a bear",
        2: "a bear",
        0: "a fox",
    }


def test_without_captions_all_pictures_beside_serve_every_prompt(tmp_path):
    for name in ("b.png", "a.JPG", "c.jpeg", "more/d.png"):
        save(tmp_path / name, rand(3, 8, 8))
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / ".c.png.partial").write_text("half a picture")
    reference = Reference.open(tmp_path)
    assert reference.names == ("a.JPG", "b.png", "c.jpeg")
    assert reference.pictures_of("whatever") == [0, 1, 2]


def test_a_prompt_that_it_has_not_is_an_error_that_names_those_that_it_has(folder):
    with pytest.raises(ConfigError) as raised:
        Reference.open(folder).pictures_of("a foxx")
    assert str(raised.value) == (
        f"the reference '{folder}' has no picture of 'a foxx'. It has 'a bear', 'a fox'. Did you "
        "mean 'a fox'? Name another reference, or add pictures of this prompt."
    )


def test_of_many_prompts_ten_are_named(folder):
    write(folder, {"fox1.png": [f"toy {number}" for number in range(12)]})
    with pytest.raises(ConfigError, match=r"'toy 9' and 2 more\."):
        Reference.open(folder).pictures_of("a bear")


@pytest.mark.parametrize(
    ("captions", "message"),
    [
        ({"gone.png": "a bear"}, "has no file 'gone.png', which its captions.json names"),
        ({}, "has no picture: no captions.json that names one"),
        ("{", "captions.json': Expecting property name"),
    ],
    ids=str,
)
def test_captions_that_do_not_fit_are_one_line_that_says_so(folder, captions, message):
    write(folder, captions)
    with pytest.raises(ConfigError) as raised:
        Reference.open(folder)
    assert message in str(raised.value) and "\n" not in str(raised.value)


def test_a_folder_that_is_not_there_or_empty_is_told(tmp_path):
    with pytest.raises(ConfigError, match=r"^there is no folder '.*nowhere' with a reference\. "):
        Reference.open(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"has no picture: no captions\.json that names one"):
        Reference.open(tmp_path)


# features that are kept


def test_features_are_those_of_each_picture_in_order_of_any_size(tmp_path):
    sides = [8, 8, 9, 9, 9, 8]
    saved = [save(tmp_path / f"{i}.png", rand(3, n, n, seed=i)) for i, n in enumerate(sides)]
    encoder = Pixels()
    found = Reference.open(tmp_path).features(encoder)
    assert torch.allclose(found, torch.stack([each.mean(dim=(1, 2)) for each in saved]))
    assert encoder.seen == [(2, 3, 8, 8), (3, 3, 9, 9), (1, 3, 8, 8)]


def test_many_pictures_come_a_few_at_once(tmp_path):
    for index in range(20):
        save(tmp_path / f"{index:02d}.png", rand(3, 4, 4, seed=index))
    encoder = Pixels()
    assert len(Reference.open(tmp_path).features(encoder)) == 20
    assert [shape[0] for shape in encoder.seen] == [16, 4]


def test_a_second_time_no_picture_is_looked_at(folder):
    first, second = Pixels(), Pixels()
    found = Reference.open(folder).features(first)
    assert torch.equal(Reference.open(folder).features(second), found)
    assert first.seen and not second.seen and len(kept(folder)) == 1


def changed_picture(folder):
    save(folder / "fox1.png", rand(3, 8, 8, seed=99))


def changed_picture_of_the_same_size_and_time(folder):
    path = folder / "fox1.png"
    before = path.stat()
    with Image.open(path) as file:
        levels = np.array(file)
    levels[0, 0] ^= 255
    Image.fromarray(levels).save(path, compress_level=0)
    other = path.read_bytes()
    Image.fromarray(levels ^ 255).save(path, compress_level=0)
    assert len(path.read_bytes()) == len(other)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def swapped_names(folder):
    (folder / "fox1.png").rename(folder / "x.png")
    (folder / "bear1.png").rename(folder / "fox1.png")
    (folder / "x.png").rename(folder / "bear1.png")


def more_pictures(folder):
    save(folder / "more.png", rand(3, 8, 8, seed=98))
    captions = json.loads((folder / "captions.json").read_text("utf-8"))
    write(folder, {**captions, "more.png": "a fox"})


def fewer_pictures(folder):
    captions = json.loads((folder / "captions.json").read_text("utf-8"))
    captions.pop("bear0.png")
    write(folder, captions)


@pytest.mark.parametrize(
    "change",
    [
        changed_picture,
        changed_picture_of_the_same_size_and_time,
        swapped_names,
        more_pictures,
        fewer_pictures,
    ],
)
def test_features_of_other_pictures_are_never_used(folder, change):
    before = Reference.open(folder).features(Pixels())
    change(folder)
    encoder, reference = Pixels(), Reference.open(folder)
    found = reference.features(encoder)
    expected = [read_picture(folder / name).mean(dim=(1, 2)) for name in reference.names]
    assert encoder.seen and torch.allclose(found, torch.stack(expected))
    assert not torch.equal(found, before) and len(kept(folder)) == 2


def test_features_of_another_encoder_are_never_used(folder):
    Reference.open(folder).features(Pixels())
    other = Pixels("others")
    Reference.open(folder).features(other)
    assert other.seen and len(kept(folder)) == 2


def test_other_captions_of_the_same_pictures_need_no_new_features(folder):
    Reference.open(folder).features(Pixels())
    names = json.loads((folder / "captions.json").read_text("utf-8"))
    write(folder, dict.fromkeys(names, "a toy"))
    encoder = Pixels()
    Reference.open(folder).features(encoder)
    assert not encoder.seen


@pytest.mark.parametrize("damage", ["cut", "empty", "other"])
def test_kept_features_that_are_damaged_are_made_again(folder, damage):
    found = Reference.open(folder).features(Pixels())
    (path,) = kept(folder)
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[:-8], "empty": b"", "other": b"no features"}[damage])
    encoder = Pixels()
    assert torch.equal(Reference.open(folder).features(encoder), found)
    assert encoder.seen
    third = Pixels()
    assert torch.equal(Reference.open(folder).features(third), found) and not third.seen


def test_a_folder_that_cannot_be_written_costs_a_warning_and_nothing_else(folder, caplog):
    (folder / "features").write_text("in the way")
    with caplog.at_level(logging.WARNING):
        reference, encoder = Reference.open(folder), Pixels()
        found = reference.features(encoder)
    assert found.shape == (14, 3)
    assert "features of the reference are not kept" in caplog.text
    seen = list(encoder.seen)
    assert torch.equal(reference.features(encoder), found)  # for the next object
    assert encoder.seen == seen


def test_its_recipe_says_how_many_pictures_which_and_how_they_were_made(folder):
    first = Reference.open(folder).recipe()
    assert (first["pictures"], first["recipe"]) == (14, None) and len(first["sha256"]) == 16
    (folder / "recipe.json").write_text('{"seed": 3}', "utf-8")
    assert Reference.open(folder).recipe() == {**first, "recipe": {"seed": 3}}
    changed_picture(folder)
    assert Reference.open(folder).recipe()["sha256"] != first["sha256"]
