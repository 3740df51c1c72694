"""Numbers of pictures, on pictures whose numbers are known, and on the world's own corruptions."""

import pytest
import torch
from torch import Generator

from sd_toybox.train.data import draw_labels
from sd_toybox.train.measure import WORDS
from sd_toybox.train.statistics import noisiness, psnr, saturation, sharpness
from sd_toybox.world.corruptions import corrupted
from sd_toybox.world.samples import draw_pictures


def filled(*colour):
    return torch.tensor(colour)[None, :, None, None].expand(1, 3, 16, 16)


def test_saturation_is_the_spread_of_the_colours():
    assert float(saturation(filled(0.9, 0.2, 0.5))) == pytest.approx(0.7)
    assert float(saturation(filled(0.4, 0.4, 0.4))) == 0


def test_sharpness_is_the_slope_of_the_steepest_part():
    step = filled(0.0, 0.0, 0.0).clone()
    step[..., 8:] = 0.6
    ramp = (torch.arange(16) / 15 * 0.6).expand(1, 3, 16, 16)
    # One column of 15 is more than the steepest 5 %, which are thus all of the step.
    assert float(sharpness(step)) == pytest.approx(0.6, abs=1e-5)
    assert float(sharpness(ramp)) == pytest.approx(0.6 / 15, abs=1e-5)
    assert float(sharpness(filled(0.3, 0.3, 0.3))) == 0


def test_noisiness_is_the_deviation_of_noise_whatever_it_lies_on():
    noise = 0.05 * torch.randn(1, 1, 64, 64, generator=Generator().manual_seed(0))
    halves = torch.full((1, 3, 64, 64), 0.2)
    halves[..., 30:] = 0.8
    assert float(noisiness(halves)) == pytest.approx(0, abs=1e-6)
    assert float(noisiness(halves + noise)) == pytest.approx(0.05, rel=0.1)


def test_psnr_is_in_decibels():
    found = psnr(
        torch.zeros(2, 3, 16, 16), torch.cat([filled(0.1, 0.1, 0.1), filled(0.01, 0.01, 0.01)])
    )
    assert found.tolist() == pytest.approx([20.0, 40.0], abs=1e-3)
    assert psnr(filled(0.1, 0.2, 0.3), filled(0.1, 0.2, 0.3)).isfinite().all()


@pytest.mark.parametrize(
    ("word", "direction"), [("oversaturated", 1), ("foggy", -1), ("blurry", -1), ("noisy", 1)]
)
def test_the_worlds_corruptions_change_what_their_words_are_measured_by(word, direction):
    generator = Generator().manual_seed(0)
    labels = draw_labels("world", 40, generator)
    pictures = draw_pictures(labels, generator).float() / 255
    pictures = pictures[torch.tensor([not words for words in labels.words])]
    changed = corrupted(pictures, [(word,)] * len(pictures), generator)
    change = WORDS[word](changed) - WORDS[word](pictures)
    assert (direction * change > 0).float().mean() > 0.8
