import imageio.v2 as imageio
import numpy as np
import pytest
import torch
from PIL import Image

from sd_core.errors import RunFolderError
from sd_core.pictures import contact_sheet, enlarge, save_png, save_video, to_bytes


def numbered(count, height=2, width=3):
    """Picture i has the value i/10 everywhere."""
    return (torch.arange(count) / 10).view(-1, 1, 1, 1).expand(count, 3, height, width)


def test_bytes_are_rounded_and_clamped():
    levels = torch.tensor([-1.0, 0.0, 0.5, 0.999, 1.0, 2.0]).view(1, 1, 1, 6).expand(1, 3, 1, 6)
    pictures = to_bytes(levels)
    assert pictures.shape == (1, 1, 6, 3)
    assert pictures[0, 0, :, 0].tolist() == [0, 0, 128, 255, 255, 255]


def test_pictures_with_a_graph_or_of_half_precision_can_be_shown():
    picture = torch.full((1, 3, 2, 2), 0.5, dtype=torch.float16, requires_grad=True)
    assert to_bytes(picture)[0, 0, 0].tolist() == [128, 128, 128]


def test_a_sheet_is_filled_row_by_row_and_ends_in_white():
    sheet = contact_sheet(numbered(5), 3)
    assert sheet.shape == (1, 3, 4, 9)
    cells = sheet[0, 0, ::2, ::3]
    assert torch.allclose(cells, torch.tensor([[0.0, 0.1, 0.2], [0.3, 0.4, 1.0]]))


@pytest.mark.parametrize(("count", "columns", "size"), [(1, 1, (2, 3)), (4, 2, (4, 6))])
def test_a_full_sheet_has_no_blank(count, columns, size):
    assert contact_sheet(numbered(count), columns).shape[-2:] == size


def test_a_picture_keeps_its_place_on_the_sheet():
    views = torch.rand(6, 3, 4, 5)
    sheet = contact_sheet(views, 3)
    assert torch.equal(sheet[0, :, 4:8, 5:10], views[4])


@pytest.mark.parametrize(
    ("side", "pixels", "result"), [(8, 128, 128), (9, 16, 18), (64, 64, 64), (65, 64, 65)]
)
def test_enlarging_is_by_a_whole_factor_and_never_shrinks(side, pixels, result):
    assert enlarge(torch.zeros(1, 3, side, side), pixels).shape == (1, 3, result, result)


def test_enlarged_pixels_stay_square():
    large = enlarge(torch.rand(1, 3, 4, 6), 8)
    assert large.shape == (1, 3, 8, 12)
    assert torch.equal(large[..., ::2, ::2], large[..., 1::2, 1::2])


def test_a_png_reads_back_to_the_bit(tmp_path):
    picture = torch.rand(1, 3, 5, 7)
    path = tmp_path / "a.png"
    save_png(path, picture)
    with Image.open(path) as image:
        assert image.size == (7, 5)
        assert np.array_equal(np.asarray(image), to_bytes(picture)[0])
    assert list(tmp_path.iterdir()) == [path]


def test_a_png_that_cannot_be_written_is_named(tmp_path):
    path = tmp_path / "none" / "a.png"
    with pytest.raises(RunFolderError) as caught:
        save_png(path, torch.zeros(1, 3, 2, 2))
    assert str(caught.value) == f"could not write {path}: No such file or directory."


# imageio's reader leaves the pipes of its ffmpeg to the garbage collector.
@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.parametrize(("side", "result"), [(8, 256), (257, 256)])
def test_a_video_reads_back_with_even_sides(tmp_path, side, result):
    path = tmp_path / "a.mp4"
    save_video(path, numbered(6, side, side))
    with imageio.get_reader(path) as video:
        frames = [frame for frame in video]
    assert [frame.shape for frame in frames] == [(result, result, 3)] * 6
    levels = [frame.mean() / 255 for frame in frames]
    assert levels == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5], abs=0.03)
    assert list(tmp_path.iterdir()) == [path]


def test_a_video_that_the_system_cuts_short_is_an_error_and_no_file(tmp_path):
    """ffmpeg is a process of its own: that it failed must not pass unnoticed."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, before[1]))
    try:
        with pytest.raises(RunFolderError) as caught:
            save_video(tmp_path / "a.mp4", torch.rand(8, 3, 256, 256))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "a.mp4").exists()


@pytest.mark.parametrize("counted", [3, 0])
def test_a_video_that_ffmpeg_left_short_says_how_much_of_it_there_is(
    tmp_path, monkeypatch, counted
):
    def count(path):
        if not counted:  # a file that ffmpeg cannot even read
            raise RuntimeError("Could not get number of frames")
        return counted, counted / 24

    monkeypatch.setattr("imageio_ffmpeg.count_frames_and_secs", count)
    path = tmp_path / "a.mp4"
    with pytest.raises(RunFolderError) as caught:
        save_video(path, numbered(6))
    assert str(caught.value) == (
        f"could not write {path}: ffmpeg wrote {counted} of 6 frames; the disk may be full."
    )
    assert list(tmp_path.iterdir()) == []
