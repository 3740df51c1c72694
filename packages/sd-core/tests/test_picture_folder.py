"""Folders of anybody's pictures: what is read, what is refused, what is left out."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from sd_core import picture_folder
from sd_core.errors import ConfigError
from sd_core.picture_folder import PictureFolder, read_picture


def save(path, colour=(255, 0, 0), size=(6, 4), mode="RGB"):
    path.parent.mkdir(exist_ok=True)
    Image.new(mode, size, colour).save(path)
    return path


@pytest.fixture
def three(tmp_path):
    for index in range(3):
        save(tmp_path / "p" / f"{index}.png", (index, 0, 0))
    return tmp_path / "p"


def opened(folder, *, prompt="a bear", bad="refuse"):
    return PictureFolder.open(folder, prompt=prompt, bad=bad)


def everything(found, prompt="a bear"):
    return torch.cat(list(found.batches(prompt)))


def test_pictures_come_in_the_order_of_their_names_and_a_few_at_a_time(three, monkeypatch):
    monkeypatch.setattr(picture_folder, "AT_ONCE", 2)
    found = opened(three)
    assert [len(batch) for batch in found.batches("a bear")] == [2, 1]
    images = everything(found)
    assert images.shape == (3, 3, 4, 6) and found.size == (4, 6)
    assert (images[:, 0, 0, 0] * 255).round().tolist() == [0, 1, 2]


def test_a_picture_is_read_as_it_was_saved(tmp_path):
    levels = torch.arange(105, dtype=torch.uint8).view(5, 7, 3)
    Image.fromarray(levels.numpy()).save(tmp_path / "a.png")
    assert torch.equal(read_picture(tmp_path / "a.png"), levels.permute(2, 0, 1) / 255)


def test_grey_is_all_colours_and_what_is_transparent_is_white(tmp_path):
    Image.fromarray(np.full((2, 2), 51, np.uint8)).save(tmp_path / "grey.png")
    assert torch.allclose(read_picture(tmp_path / "grey.png"), torch.tensor(0.2))
    levels = np.zeros((1, 2, 4), np.uint8)
    levels[0, 1, 3] = 255
    Image.fromarray(levels).save(tmp_path / "glass.png")
    assert read_picture(tmp_path / "glass.png")[:, 0].tolist() == [[1.0, 0.0]] * 3


def test_a_photograph_is_turned_as_its_camera_says(tmp_path):
    image = Image.fromarray(np.arange(18, dtype=np.uint8).reshape(2, 3, 3) * 10)
    turned = Image.Exif()
    turned[0x0112] = 6  # to be turned a quarter to the right
    image.save(tmp_path / "a.png", exif=turned)
    expected = np.rot90(np.asarray(image), -1) / 255
    assert np.allclose(read_picture(tmp_path / "a.png").movedim(0, -1).numpy(), expected)


def test_what_cannot_be_read_is_one_line_that_names_the_file(tmp_path):
    whole = save(tmp_path / "cut.png", size=(64, 64)).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("no picture")
    deep = Image.fromarray(np.full((2, 2), 40000, np.uint16))
    deep.save(tmp_path / "deep.png")
    for name in ("cut.png", "text.png", "deep.png", "gone.png"):
        with pytest.raises(ConfigError, match=name) as raised:
            read_picture(tmp_path / name)
        assert "\n" not in str(raised.value)


def test_captions_make_an_object_of_each_prompt(three):
    captions = {"0.png": "a bear", "1.png": ["a bus", "a bus, front view"], "2.png": "a bear"}
    (three / "captions.json").write_text(json.dumps(captions))
    found = opened(three, prompt=None)
    assert {prompt: len(files) for prompt, files in found.files.items()} == {
        "a bear": 2,
        "a bus": 1,
    }
    assert len(opened(three, prompt="").files[""]) == 3  # told at the command line: all are of it


@pytest.mark.parametrize(
    ("captions", "message"),
    [
        (None, "does not say what its pictures were made for. Give --prompt TEXT"),
        ('{"0.png": []}', "0.png: captions.json has no prompt for it. Mend or remove all 3"),
        ('{"0.png": "a", "1.png": "b"}', "2.png: captions.json has no prompt for it. Mend or re"),
    ],
)
def test_without_a_prompt_for_each_picture_there_is_one_line(three, captions, message):
    if captions is not None:
        (three / "captions.json").write_text(captions)
    with pytest.raises(ConfigError, match=message):
        opened(three, prompt=None)


def test_the_list_may_name_pictures_of_folders_within(three):
    save(three / "cats" / "0.png", (9, 0, 0))
    captions = {"0.png": "a bear", "cats/0.png": "a cat", "1.png": ["a bear"], "gone.png": "a bus"}
    (three / "captions.json").write_text(json.dumps(captions))
    with pytest.raises(ConfigError, match=r"gone\.png: cannot read .*remove all 2 "):
        opened(three, prompt=None)
    found = opened(three, prompt=None, bad="skip")
    assert {prompt: len(files) for prompt, files in found.files.items()} == {
        "a bear": 2,
        "a cat": 1,
    }
    assert sorted(found.skipped) == ["2.png", "gone.png"]
    assert len(opened(three, prompt="", bad="skip").files[""]) == 4


def test_a_damaged_picture_is_refused_by_name_or_left_out(three):
    whole = (three / "1.png").read_bytes()
    (three / "1.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConfigError, match=r"1\.png: cannot read the picture.*--bad-pictures skip"):
        opened(three)
    found = opened(three, bad="skip")
    assert len(everything(found)) == 2 and list(found.skipped) == ["1.png"]


def test_a_picture_of_another_size_is_refused_by_name_or_left_out(three):
    save(three / "0.jpg", size=(8, 8))
    with pytest.raises(ConfigError, match=r"0\.jpg: 8 x 8 pixels, most have 4 x 6"):
        opened(three)
    found = opened(three, bad="skip")
    assert len(everything(found)) == 3 and list(found.skipped) == ["0.jpg"]


def test_a_folder_without_a_picture_that_can_be_read_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"holds no picture that can be read. It looks for .png"):
        opened(tmp_path)
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(ConfigError, match=r"no picture that can be read. a.png: cannot read"):
        opened(tmp_path, bad="skip")
