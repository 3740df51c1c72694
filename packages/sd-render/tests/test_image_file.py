"""Pictures from files: every kind read as it was meant, every other refused in one line."""

import io
import re
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Generator

from sd_core.errors import ConfigError
from sd_render.image_file import fitted, read_image, resized

LEVELS = np.random.default_rng(0).integers(0, 256, (4, 6, 4), dtype=np.uint8)


def saved(folder, pixels, mode, name="picture.png", **options):
    path = folder / name
    Image.fromarray(pixels, mode=None).convert(mode).save(path, **options)
    return path


def expected(levels):
    return torch.tensor(np.moveaxis(levels, -1, 0) / 255, dtype=torch.float32)


def refusal(path):
    with pytest.raises(ConfigError) as caught:
        read_image(path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    return message.replace(str(path), "FILE")


def ramp(height, width):
    return torch.rand(3, height, width, generator=Generator().manual_seed(0))


def test_rgb_levels_are_divided_by_255(tmp_path):
    image = read_image(saved(tmp_path, LEVELS[..., :3], "RGB"))
    assert image.dtype == torch.float32
    torch.testing.assert_close(image, expected(LEVELS[..., :3]))


def test_grey_becomes_three_equal_channels(tmp_path):
    image = read_image(saved(tmp_path, LEVELS[..., 0], "L"))
    torch.testing.assert_close(image, expected(np.stack([LEVELS[..., 0]] * 3, axis=-1)))


def test_a_palette_is_looked_up(tmp_path):
    palette, index = LEVELS[0, :, :3], LEVELS[..., 0] % 6
    indexed = Image.fromarray(index).convert("P")
    indexed.putdata(index.flatten().tolist())
    indexed.putpalette(palette.flatten().tolist())
    indexed.save(tmp_path / "palette.png")
    torch.testing.assert_close(read_image(tmp_path / "palette.png"), expected(palette[index]))


def test_one_bit_is_black_and_white(tmp_path):
    bits = LEVELS[..., 0] // 128 * 255
    image = read_image(saved(tmp_path, bits, "1"))
    torch.testing.assert_close(image[0], expected(bits[..., None])[0])


def test_transparency_is_laid_over_white(tmp_path):
    opacity = LEVELS[..., 3:].astype(float) / 255
    over_white = opacity * LEVELS[..., :3] + (1 - opacity) * 255
    image = read_image(saved(tmp_path, LEVELS, "RGBA"))
    torch.testing.assert_close(image, expected(over_white))


def test_grey_with_transparency_too(tmp_path):
    grey, opacity = LEVELS[..., 0], LEVELS[..., 3]
    Image.merge("LA", [Image.fromarray(grey), Image.fromarray(opacity)]).save(tmp_path / "la.png")
    over_white = opacity / 255.0 * grey + (255 - opacity)
    image = read_image(tmp_path / "la.png")
    torch.testing.assert_close(image, expected(np.stack([over_white] * 3, axis=-1)))


@pytest.mark.parametrize(("mode", "index"), [("L", 7), ("P", 1), ("RGB", (7, 7, 7))])
def test_a_transparent_level_is_white(tmp_path, mode, index):
    black = Image.new(mode, (2, 1), 7 if mode == "L" else 0)
    if mode == "P":
        black.putpalette([0, 0, 0, 0, 0, 0])
        black.putpixel((1, 0), 1)
    if mode == "RGB":
        black.putpixel((1, 0), (7, 7, 7))
    black.save(tmp_path / "clear.png", transparency=index)
    assert read_image(tmp_path / "clear.png")[:, 0, 1].tolist() == [1, 1, 1]


# What the viewer must do to the stored rows, by the number in the EXIF tag 274.
UPRIGHT = {
    1: lambda rows: rows,
    2: lambda rows: rows[:, ::-1],
    3: lambda rows: rows[::-1, ::-1],
    4: lambda rows: rows[::-1],
    5: lambda rows: rows.swapaxes(0, 1),
    6: lambda rows: np.rot90(rows, -1),
    7: lambda rows: np.rot90(rows, 2).swapaxes(0, 1),
    8: lambda rows: np.rot90(rows),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_a_photograph_is_upright(tmp_path, orientation):
    tag = Image.Exif()
    tag[274] = orientation
    path = saved(tmp_path, LEVELS[..., :3], "RGB", exif=tag)
    upright = np.ascontiguousarray(UPRIGHT[orientation](LEVELS[..., :3]))
    torch.testing.assert_close(read_image(path), expected(upright))


def test_a_phones_second_picture_is_left_out(tmp_path):
    first = Image.fromarray(np.full((8, 8, 3), 255, dtype=np.uint8))
    first.save(
        tmp_path / "phone.jpg", "MPO", save_all=True, append_images=[Image.new("RGB", (8, 8))]
    )
    assert read_image(tmp_path / "phone.jpg").min() > 0.99


def test_a_missing_file_is_refused(tmp_path):
    message = "image 'FILE' does not exist. Give the path of a PNG, JPEG or WebP file."
    assert refusal(tmp_path / "none.png") == message
    file = saved(tmp_path, LEVELS[..., :3], "RGB")
    assert refusal(file / "none.png") == message


def test_a_folder_is_refused(tmp_path):
    assert refusal(tmp_path) == "image 'FILE' is a folder. Give the path of one picture in it."


def test_a_file_that_may_not_be_read_is_refused(tmp_path, monkeypatch):
    def forbid(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Image, "open", forbid)
    message = "image 'FILE' may not be read. Check its permissions."
    assert refusal(tmp_path / "secret.png") == message


@pytest.mark.parametrize("content", [b"", b"a red bear\n" * 99])
def test_what_is_no_picture_is_refused(tmp_path, content):
    path = tmp_path / "notes.png"
    path.write_bytes(content)
    assert refusal(path) == (
        "image 'FILE' is not a picture, or of an unknown kind. Give a PNG, JPEG or WebP file."
    )


@pytest.mark.parametrize("kind", ["png", "jpg", "webp", "tif"])
def test_a_truncated_picture_is_refused(tmp_path, kind):
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    whole = saved(tmp_path, noise, "RGB", f"whole.{kind}").read_bytes()
    path = tmp_path / f"part.{kind}"
    path.write_bytes(whole[: len(whole) // 2])
    message = refusal(path)
    remedy = "Copy it again" if "cut short" in message else "Give a PNG"
    assert remedy.lower() in message.lower()


def test_no_damage_is_a_traceback(tmp_path):
    random = np.random.default_rng(2)
    buffer = io.BytesIO()
    Image.fromarray(LEVELS[..., :3]).save(buffer, "PNG")
    refused = 0
    for _ in range(200):
        damaged = bytearray(buffer.getvalue())
        damaged[random.integers(len(damaged))] ^= 1 << random.integers(8)
        path = tmp_path / "damaged.png"
        path.write_bytes(bytes(damaged))
        try:
            read_image(path)
        except ConfigError as error:
            refused += "\n" not in str(error)
    assert refused > 100


def test_sixteen_bits_of_grey_are_refused(tmp_path):
    path = tmp_path / "deep.png"
    Image.fromarray(np.arange(24, dtype=np.uint16).reshape(4, 6) * 2000).save(path)
    assert refusal(path) == (
        "image 'FILE' has 16 or more bits a channel, expected 8. Save it as an 8-bit RGB PNG."
    )


def test_sixteen_bits_of_colour_are_refused_too(tmp_path):
    # PIL reads such a file as 8 bits without a word, and cannot write one.
    def chunk(name, content):
        checked = name + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    path = tmp_path / "deep.png"
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(13)))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b""))
    with Image.open(path) as file:
        assert file.mode == "RGB"
    assert "has 16 or more bits a channel" in refusal(path)


def test_printers_colours_are_refused(tmp_path):
    path = saved(tmp_path, LEVELS[..., :3], "CMYK", "print.jpg")
    assert refusal(path) == (
        "image 'FILE' has colours of mode CMYK, expected grey or RGB. Save it as an 8-bit RGB PNG."
    )


@pytest.mark.parametrize("kind", ["gif", "png", "webp", "tif"])
def test_an_animation_is_refused(tmp_path, kind):
    frames = [Image.new("RGB", (8, 8), (level, 0, 0)) for level in (0, 120, 250)]
    path = tmp_path / f"moving.{kind}"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert refusal(path) == (
        "image 'FILE' has 3 frames, expected a single picture. Save the one you want as a PNG."
    )


def test_another_size_is_refused_unless_the_user_says_what_to_do():
    with pytest.raises(ConfigError) as caught:
        fitted(ramp(20, 30), 64, 48, "refuse")
    assert str(caught.value) == (
        "the image is 20 pixels high and 30 wide, but the scene wants 64 high and 48 wide. Set "
        'fit = "resize" to stretch it, fit = "crop" to take its middle, or give an image of that '
        "size."
    )


@pytest.mark.parametrize("fit", ["refuse", "resize", "crop"])
def test_an_image_of_the_right_size_stays_as_it_is(fit):
    image = ramp(5, 7)
    assert torch.equal(fitted(image, 5, 7, fit), image)


@pytest.mark.parametrize(("height", "width"), [(8, 5), (40, 60), (31, 7)])
def test_resizing_is_the_bicubic_of_other_programs(height, width):
    image = ramp(20, 30)
    size, bicubic = (width, height), Image.Resampling.BICUBIC
    channels = [np.array(Image.fromarray(c.numpy()).resize(size, bicubic)) for c in image]
    other = torch.from_numpy(np.stack(channels)).clamp(0, 1)
    torch.testing.assert_close(fitted(image, height, width, "resize"), other, rtol=0, atol=1e-5)


def test_resizing_stays_in_range():
    step = torch.zeros(1, 3, 8, 8)
    step[..., 4:] = 1.0
    larger = resized(step, 32, 32)
    assert larger.min() == 0 and larger.max() == 1


@pytest.mark.parametrize(("height", "width"), [(20, 10), (10, 30), (40, 12)])
def test_a_crop_keeps_proportions_and_the_middle(height, width):
    # A linear ramp in both directions survives interpolation away from the borders.
    down, along = torch.meshgrid(torch.arange(20.0), torch.arange(30.0), indexing="ij")
    image = torch.stack([down + 0.5, along + 0.5, down]) / 100
    seen = 100 * fitted(image, height, width, "crop")
    assert seen.shape == (3, height, width)
    assert seen[0].mean() == pytest.approx(10, abs=0.01)  # the middle of 0 .. 20
    assert seen[1].mean() == pytest.approx(15, abs=0.01)
    middle = seen[:, height // 2 - 2 : height // 2 + 2, width // 2 - 2 : width // 2 + 2]
    scale = max(height / 20, width / 30)
    slopes = middle[0].diff(dim=0), middle[1].diff(dim=1)
    for slope in slopes:
        torch.testing.assert_close(slope, torch.full_like(slope, 1 / scale), rtol=0, atol=1e-3)


def test_every_mistake_is_one_sentence_after_another(tmp_path):
    assert re.fullmatch(r"[^\n]+\. [^\n]+\.", refusal(tmp_path / "none.png"))
