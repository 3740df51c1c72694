"""The principal component against torch's SVD, and which of its ends is the object."""

import pytest
import torch
from torch import Generator

from sd_guidance_usd.foreground import (
    PrincipalAxis,
    foreground_mask,
    or_everything,
    principal_axis,
    towards_the_object,
)

OBJECT = torch.zeros(2, 6, 8, dtype=torch.bool)
OBJECT[0, 1:5, 2:6] = True
OBJECT[1, 2:6, 3:5] = True  # stands on the lower border


def patches_of(mask, *, inside, outside):
    """Features of an object and what is around it, with a little noise."""
    noise = 0.05 * torch.randn(*mask.shape, 5, generator=Generator().manual_seed(0))
    inside, outside = (torch.tensor(part).expand(*mask.shape, 5) for part in (inside, outside))
    return torch.where(mask[..., None], inside, outside) + noise


BRIGHT, DARK = [1.0, 0.8, 0.9, 0.2, 0.0], [0.0, 0.1, 0.0, 0.1, 0.3]


def test_the_axis_is_the_first_right_singular_vector_of_the_centred_points():
    patches = torch.randn(3, 4, 5, 7, generator=Generator().manual_seed(1)).double()
    patches = patches * torch.linspace(1, 3, 7).double() + 2
    axis = principal_axis(patches)
    points = patches.reshape(60, 7)
    _, _, rows = torch.linalg.svd(points - points.mean(dim=0))
    torch.testing.assert_close(axis.mean, points.mean(dim=0))
    torch.testing.assert_close((axis.direction @ rows[0]).abs(), torch.tensor(1.0).double())


def test_scores_have_the_largest_variance_of_any_direction():
    generator = Generator().manual_seed(2)
    patches = torch.randn(2, 4, 4, 6, generator=generator) * torch.arange(1.0, 7.0)
    axis = principal_axis(patches)
    most = axis.scores(patches).var()
    for _ in range(50):
        other = torch.randn(6, generator=generator)
        assert most >= PrincipalAxis(axis.mean, other / other.norm()).scores(patches).var()


def test_the_mask_is_where_the_sigmoid_of_the_standardised_score_passes_a_half():
    scores = torch.randn(4, 5, 6, generator=Generator().manual_seed(3)) * 3 + 1
    for picture, mask in zip(scores, foreground_mask(scores), strict=True):
        standardised = (picture - picture.mean()) / picture.std()
        assert torch.equal(mask, torch.sigmoid(standardised) > 0.5)


@pytest.mark.parametrize(("inside", "outside"), [(BRIGHT, DARK), (DARK, BRIGHT)])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_object_is_on_whether_bright_or_dark_and_whatever_the_sign(inside, outside, sign):
    patches = patches_of(OBJECT, inside=inside, outside=outside)
    axis = principal_axis(patches)
    axis = PrincipalAxis(axis.mean, sign * axis.direction)
    turned = towards_the_object(axis, patches)
    assert torch.equal(foreground_mask(turned.scores(patches)), OBJECT)


def test_the_axis_of_templates_finds_the_object_in_another_picture():
    patches = patches_of(OBJECT, inside=BRIGHT, outside=DARK)
    axis = towards_the_object(principal_axis(patches), patches)
    elsewhere = OBJECT[:1].roll(2, dims=2)
    other = patches_of(elsewhere, inside=BRIGHT, outside=DARK) - 0.2
    assert torch.equal(foreground_mask(axis.scores(other)), elsewhere)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_saliency_overrules_the_border(sign):
    around = ~OBJECT  # an object that covers the borders
    patches = patches_of(around, inside=BRIGHT, outside=DARK)
    axis = principal_axis(patches)
    axis = PrincipalAxis(axis.mean, sign * axis.direction)
    saliency = 40 + 0.1 * around.float()
    turned = towards_the_object(axis, patches, saliency)
    assert torch.equal(foreground_mask(turned.scores(patches)), around)
    assert torch.equal(foreground_mask(towards_the_object(axis, patches).scores(patches)), OBJECT)


def test_the_border_is_every_patch_of_the_outer_rows_and_columns_once():
    generator = Generator().manual_seed(4)
    axis = PrincipalAxis(torch.zeros(1), torch.ones(1))
    directions = set()
    for _ in range(100):
        scores = torch.randn(2, 4, 5, generator=generator)
        on = foreground_mask(scores)
        border = [
            bool(on[picture, row, column])
            for picture in range(2)
            for row in range(4)
            for column in range(5)
            if row in (0, 3) or column in (0, 4)
        ]
        expected = 1 if sum(border) <= len(border) / 2 else -1
        assert float(towards_the_object(axis, scores[..., None]).direction) == expected
        directions.add(expected)
    assert directions == {1, -1}


def test_a_saliency_counts_within_each_picture():
    """A picture that is dark all over, and looked at all over, says nothing by that."""
    inside = OBJECT.float()
    scores = inside - torch.tensor([0.0, 10.0])[:, None, None]
    saliency = 0.1 * inside + torch.tensor([0.0, 100.0])[:, None, None]
    axis = PrincipalAxis(torch.zeros(1), torch.ones(1))
    assert float(towards_the_object(axis, scores[..., None], saliency).direction) == 1


def test_a_picture_without_contrast_is_all_object():
    scores = torch.stack([torch.zeros(3, 4), torch.arange(12.0).view(3, 4)])
    assert foreground_mask(scores).sum(dim=(1, 2)).tolist() == [12, 6]


def test_only_empty_masks_are_filled():
    masks = torch.zeros(2, 2, 3, dtype=torch.bool)
    masks[1, 0, 2] = True
    assert or_everything(masks).sum(dim=(1, 2)).tolist() == [6, 1]
