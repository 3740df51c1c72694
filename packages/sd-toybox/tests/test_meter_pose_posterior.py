"""Which azimuth a view shows, against the same done the long way."""

import pytest
import torch
from torch.nn.functional import avg_pool2d, cosine_similarity, pad

from sd_toybox.meter.pose_posterior import pose_posterior, view_cosines


def random_pictures(count, pixels, seed=0):
    """Pictures with something of the size of eight pixels on white."""
    coarse = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    fine = torch.nn.functional.interpolate(coarse, pixels // 2, mode="bilinear")
    return pad(fine, (pixels // 4,) * 4, value=1.0)


def by_hand(view, true_views):
    """The largest cosine over nine shifts of what least squares leaves of each channel."""
    small = avg_pool2d(true_views, 2).flatten(2)
    mean = small.mean(dim=0)

    def rest(planes):
        left = []
        for channel in range(3):
            known = torch.stack([torch.ones_like(mean[channel]), mean[channel]], dim=1)
            fit = torch.linalg.lstsq(known, planes[channel][:, None]).solution
            left.append(planes[channel] - (known @ fit)[:, 0])
        return torch.cat(left)

    best = []
    for true in small:
        cosines = []
        for down in range(3):
            for along in range(3):
                moved = pad(view[None], (1, 1, 1, 1), mode="replicate")
                moved = moved[:, :, down : down + 32, along : along + 32]
                planes = avg_pool2d(moved, 2).flatten(2)[0]
                cosines.append(cosine_similarity(rest(planes), rest(true), dim=0))
        best.append(max(cosines))
    return torch.stack(best)


def test_the_cosines_are_those_of_the_long_way():
    true_views = random_pictures(4, 32).double()
    views = random_pictures(3, 64, seed=1).double()
    found = view_cosines(views, true_views)
    for view, cosines in zip(avg_pool2d(views, 2), found, strict=True):
        torch.testing.assert_close(cosines, by_hand(view, true_views))


def test_a_true_view_has_cosine_one_with_itself_alone():
    true_views = random_pictures(4, 32).double()
    cosines = view_cosines(true_views, true_views)
    torch.testing.assert_close(cosines.diagonal(), torch.ones(4, dtype=torch.float64))
    assert (cosines - torch.eye(4)).max() < 0.9


def test_contrast_fog_and_what_all_views_share_do_not_count():
    true_views = random_pictures(4, 32).double()
    tint = torch.tensor([0.3, 0.5, -0.7], dtype=torch.float64)[:, None, None]
    plain = view_cosines(true_views, true_views)
    torch.testing.assert_close(view_cosines(0.4 * true_views + tint, true_views), plain)
    repainted = view_cosines(true_views + tint * true_views.mean(dim=0), true_views)
    torch.testing.assert_close(repainted.diagonal(), plain.diagonal())


@pytest.mark.parametrize("shift", [(2, 0), (0, -2), (-2, 2)])
def test_two_pixels_of_64_to_a_side_do_not_count(shift):
    true_views = random_pictures(4, 32).double()
    moved = torch.nn.functional.interpolate(true_views, 64).roll(shift, dims=(2, 3))
    torch.testing.assert_close(
        view_cosines(moved, true_views).diagonal(), torch.ones(4, dtype=torch.float64)
    )


def test_a_blank_view_is_like_nothing():
    true_views = random_pictures(4, 32)
    blank = torch.stack([torch.ones(3, 64, 64), torch.full((3, 64, 64), 0.37)])
    assert torch.equal(view_cosines(blank, true_views), torch.zeros(2, 4))


def test_the_posterior_is_a_distribution_that_equals_share():
    cosines = torch.tensor([[0.8, 0.8, 0.5, -1.0], [0.0, 0.0, 0.0, 0.0]])
    posterior = pose_posterior(cosines)
    torch.testing.assert_close(posterior.sum(dim=1), torch.ones(2))
    assert posterior[0].tolist() == pytest.approx([0.5, 0.5, 0.00124, 0.0], abs=1e-3)
    torch.testing.assert_close(posterior[1], torch.full((4,), 0.25))
