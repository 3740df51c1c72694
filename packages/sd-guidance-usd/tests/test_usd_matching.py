"""The matching classifier against loops, closed forms, and a mirror."""

from math import exp, sqrt

import pytest
import torch
from torch import Generator
from torch.nn.functional import avg_pool2d

from sd_core.encoders.features import Features
from sd_core.errors import ConfigError
from sd_guidance_usd.matching import (
    MatchingClassifier,
    MatchingOptions,
    Templates,
    column_coordinates,
    orientation_similarity,
    pose_log_probabilities,
    released_log_probabilities,
    scaled,
    texture_similarity,
)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=Generator().manual_seed(seed), dtype=torch.float64)


def random_mask(*shape, seed):
    mask = random(*shape, seed=seed) > 0.3
    assert mask.flatten(1).any(dim=1).all()
    return mask


def test_the_texture_similarity_is_the_cosine_of_every_pair():
    whole, templates = random(3, 5), random(4, 5, seed=1)
    found = texture_similarity(whole, templates)
    for i in range(3):
        for c in range(4):
            dot = sum(float(a * b) for a, b in zip(whole[i], templates[c], strict=True))
            lengths = [sqrt(sum(float(a) ** 2 for a in v)) for v in (whole[i], templates[c])]
            assert float(found[i, c]) == pytest.approx(dot / lengths[0] / lengths[1])


def test_columns_run_from_minus_a_half_to_a_half_over_the_object():
    mask = torch.zeros(4, 3, 7, dtype=torch.bool)
    mask[0, 1, 1] = mask[0, 2, 5] = True  # a hole between them counts
    mask[1, :, 3] = True
    mask[2] = True
    mask[3, 0, 4:6] = True
    found = column_coordinates(mask)
    assert found[0].tolist() == [-0.5, -0.5, -0.25, 0, 0.25, 0.5, 0.5]
    assert found[1, 3] == 0
    torch.testing.assert_close(found[2], torch.linspace(-0.5, 0.5, 7))
    assert found[3, 4:6].tolist() == [-0.5, 0.5]


def looped_orientation(patches, mask, template, template_mask, temperature):
    """Eq. 16, one patch after the other."""

    def columns(one):
        on = [x for x in range(one.shape[1]) if any(bool(row[x]) for row in one)]
        first, last = on[0], on[-1]
        return {x: (x - first) / (last - first) - 0.5 if last > first else 0.0 for x in on}

    def on(one):
        height, width = one.shape
        return [(y, x) for y in range(height) for x in range(width) if one[y, x]]

    own, other, moves = columns(mask), columns(template_mask), []
    for y, x in on(mask):
        matches = []
        for v, u in on(template_mask):
            squares = sum(
                float(a - b) ** 2 for a, b in zip(patches[y, x], template[v, u], strict=True)
            )
            matches.append((exp(-sqrt(squares) / temperature), abs(own[x] - other[u])))
        total = sum(weight for weight, _ in matches)
        moves.append(sum(weight * move for weight, move in matches) / total)
    return 1 - sum(moves) / len(moves)


@pytest.mark.parametrize("temperature", [0.05, 0.7])
def test_the_orientation_similarity_is_eq_16_as_the_released_code_reads_it(temperature):
    patches, templates = random(3, 4, 5, 2), random(2, 4, 5, 2, seed=1)
    mask, template_mask = random_mask(3, 4, 5, seed=2), random_mask(2, 4, 5, seed=3)
    found = orientation_similarity(patches, mask, templates, template_mask, temperature=temperature)
    for i in range(3):
        for c in range(2):
            expected = looped_orientation(
                patches[i], mask[i], templates[c], template_mask[c], temperature
            )
            assert float(found[i, c]) == pytest.approx(
                expected, abs=1e-7
            )  # coordinates are float32


def test_a_picture_is_oriented_as_itself_and_against_its_mirror():
    patches = random(1, 4, 6, 8)
    mask = torch.ones(1, 4, 6, dtype=torch.bool)
    both = torch.cat([patches, patches.flip(2)])
    found = orientation_similarity(patches, mask, both, mask.expand(2, -1, -1), temperature=1e-3)
    mean_move = sum(abs(2 * (column / 5 - 0.5)) for column in range(6)) / 6
    torch.testing.assert_close(found[0], torch.tensor([1.0, 1 - mean_move]).double())


def test_patches_that_are_off_count_for_nothing():
    patches, templates = random(2, 4, 5, 3), random(3, 4, 5, 3, seed=1)
    mask, template_mask = random_mask(2, 4, 5, seed=2), random_mask(3, 4, 5, seed=3)
    one = orientation_similarity(patches, mask, templates, template_mask, temperature=0.5)
    patches = patches.masked_fill(~mask[..., None], 7.0)
    templates = templates.masked_fill(~template_mask[..., None], -3.0)
    other = orientation_similarity(patches, mask, templates, template_mask, temperature=0.5)
    assert torch.equal(one, other)


def test_small_distances_are_not_rounded_away():
    """|a - b| = 1e-3 beside |a| = 20, in float32, against the same in float64."""
    near = 2.0 + 1e-4 * random(1, 4, 4, 100)
    templates = near + 1e-4 * random(1, 4, 4, 100, seed=1)
    mask = torch.ones(1, 4, 4, dtype=torch.bool)
    expected, found = (
        orientation_similarity(a, mask, b, mask, temperature=1e-4)
        for a, b in ((near, templates), (near.float(), templates.float()))
    )
    torch.testing.assert_close(found.double(), expected, atol=1e-3, rtol=0)


def test_the_orientation_similarity_has_the_right_slope_in_the_features():
    patches = random(2, 3, 4, 3).requires_grad_()
    templates, mask = random(2, 3, 4, 3, seed=1), random_mask(2, 3, 4, seed=2)
    template_mask = random_mask(2, 3, 4, seed=3)

    def similarity(patches):
        return orientation_similarity(patches, mask, templates, template_mask, temperature=0.4)

    assert torch.autograd.gradcheck(similarity, patches)


def test_a_picture_equal_to_its_template_has_a_finite_slope():
    patches = random(1, 3, 3, 4).requires_grad_()
    mask = torch.ones(1, 3, 3, dtype=torch.bool)
    orientation_similarity(patches, mask, patches.detach(), mask, temperature=0.1).sum().backward()
    assert patches.grad.isfinite().all()


def test_both_forms_of_the_probabilities_are_their_softmax():
    likeness = random(3, 4).abs() + 0.1
    plain = pose_log_probabilities(likeness, temperature=0.05).exp()
    released = released_log_probabilities(likeness, temperature=0.01).exp()
    for i in range(3):
        values = likeness[i].tolist()
        for found, exponents in (
            (plain, [value / 0.05 for value in values]),
            (released, [value / sum(values) / 0.01 for value in values]),
        ):
            powers = [exp(each - max(exponents)) for each in exponents]
            expected = [power / sum(powers) for power in powers]
            assert found[i].tolist() == pytest.approx(expected)


def test_scaled_features_are_in_the_unit_interval_whatever_their_unit():
    patches = random(3, 4, 5, 6)
    found = scaled(patches)
    for one in found:
        assert float(one.min()) == 0 and float(one.max()) == 1
    torch.testing.assert_close(scaled(7 * patches - 3), found)
    assert scaled(torch.ones(1, 2, 2, 3)).isfinite().all()


GREEN, YELLOW, RED, BLUE = (0.2, 0.5, 0.2), (0.8, 0.7, 0.1), (0.9, 0.1, 0.1), (0.1, 0.1, 0.9)


class PixelExtractor:
    """Patches are mean colours and mean squares; the whole says how much there is of each colour.

    The patches of a mirrored picture are mirrored, and its whole is the same.
    """

    def __init__(self, unit=1.0, zero=0.0):
        self.unit, self.zero = unit, zero
        self.seen = []

    def __call__(self, images):
        self.seen.append(images)
        both = torch.cat([images, images.square()], dim=1)
        patches = avg_pool2d(both, 4).permute(0, 2, 3, 1)
        palette = torch.tensor([GREEN, YELLOW, RED, BLUE])[:, :, None, None]
        away = (images[:, None] - palette).square().sum(dim=2)
        whole = (-away / 0.05).exp().mean(dim=(2, 3))
        return Features(whole, self.unit * patches + self.zero)


NAMES = ("front", "back", "side", "other side")


def toy_views():
    """Front and back are symmetric; the side, red at the left and blue at the right, is not."""
    canvas = torch.ones(4, 3, 32, 32)
    painted = [
        (slice(0, 3), slice(8, 28), slice(8, 24), GREEN),
        (0, slice(8, 20), slice(8, 24), YELLOW),
        (2, slice(8, 20), slice(8, 16), RED),
        (2, slice(16, 28), slice(20, 24), BLUE),
    ]
    for view, rows, columns, colour in painted:
        canvas[view, ..., rows, columns] = torch.tensor(colour)[:, None, None]
    canvas[3] = canvas[2].flip(2)
    return canvas


def build(saliency=None, pictures=None, seed=0, extractor=None, **options):
    options = MatchingOptions(**{"augmentations": 0, "grid": 8, **options})
    templates = Templates(NAMES, toy_views() if pictures is None else pictures, saliency)
    return MatchingClassifier(
        templates,
        extractor=extractor or PixelExtractor(),
        options=options,
        generator=Generator().manual_seed(seed),
    )


def noisy_views(seed=1):
    views = toy_views().repeat(2, 1, 1, 1)
    return views + 0.05 * torch.randn(views.shape, generator=Generator().manual_seed(seed))


FORMS = [
    {},
    {"normalise": "released", "pose_temperature": 0.01},
    {"parts": "orientation"},
    {"parts": "texture"},
    {"augmentations": 3, "grid": 5},
]


@pytest.mark.parametrize("options", FORMS)
def test_probabilities_sum_to_one(options):
    found = build(**options)(noisy_views())
    assert found.shape == (8, 4)
    assert (found >= 0).all()
    torch.testing.assert_close(found.sum(dim=1), torch.ones(8))


@pytest.mark.parametrize("options", FORMS[:4])
def test_a_mirrored_picture_swaps_the_sides(options):
    classifier = build(**options)
    views = noisy_views()
    plain, mirrored = classifier(views), classifier(views.flip(3))
    torch.testing.assert_close(mirrored, plain[:, [0, 1, 3, 2]], atol=1e-4, rtol=0)
    if options.get("parts") != "texture":
        assert (plain[:, 2] - plain[:, 3]).abs().max() > 0.05


def test_each_view_is_named_right_by_both_similarities_together():
    right = torch.arange(4).repeat(2)
    assert torch.equal(build()(noisy_views()).argmax(dim=1), right)


def test_texture_alone_does_not_tell_the_sides_and_orientation_alone_does():
    views = toy_views()
    texture, orientation = build(parts="texture")(views), build(parts="orientation")(views)
    torch.testing.assert_close(texture[:, 2], texture[:, 3])
    assert orientation[2, 2] > orientation[2, 3] + 0.05
    assert orientation[3, 3] > orientation[3, 2] + 0.05


def test_the_probabilities_are_made_of_the_similarities():
    views = noisy_views()
    texture, orientation = build().similarities(views)
    plain = (texture * orientation / 0.05).softmax(dim=1)
    torch.testing.assert_close(build()(views), plain)
    released = build(normalise="released", pose_temperature=0.01)
    product = (texture + 1) / 2 * orientation
    shares = product / product.sum(dim=1, keepdim=True)
    torch.testing.assert_close(released(views), (shares / 0.01).softmax(dim=1))


def test_the_mask_of_the_templates_is_the_object():
    """Rows 2 to 6 and columns 2 to 5, of 8, in one picture or another."""
    expected = torch.zeros(4, 8, 8, dtype=torch.bool)
    expected[:, 2:7, 2:6] = True
    wrong = (build().template_mask != expected).float().mean()
    assert wrong < 0.1
    inverted = build(pictures=1 - toy_views())
    assert (inverted.template_mask != expected).float().mean() < 0.1


def test_a_saliency_of_any_grid_turns_the_mask_around():
    saliency = torch.ones(4, 16, 16)
    saliency[:, 4:14, 4:12] = 0
    assert torch.equal(build(saliency=saliency).template_mask, ~build().template_mask)
    assert torch.equal(build(saliency=1 - saliency).template_mask, build().template_mask)


def test_the_pose_has_a_slope_in_the_picture():
    views = noisy_views()[2:3].requires_grad_()
    build(patch_temperature=0.1)(views)[0, 3].backward()
    assert views.grad.isfinite().all() and views.grad.abs().max() > 0


def test_along_its_slope_a_picture_comes_to_show_the_other_side():
    classifier = build(patch_temperature=0.1)
    view = toy_views()[2:].mean(dim=0, keepdim=True)
    found = []
    for _ in range(20):
        view.requires_grad_()
        probability = classifier(view)[0, 3]
        (slope,) = torch.autograd.grad(probability.log(), view)
        view = (view + slope / slope.norm()).detach()
        found.append(probability.item())
    assert found[-1] > found[0] + 0.2


@pytest.mark.parametrize("augmentations", [0, 3])
def test_the_unit_and_the_zero_of_patch_features_do_not_matter(augmentations):
    plain = build(augmentations=augmentations)(noisy_views())
    extractor = PixelExtractor(unit=0.01, zero=0.3)
    other = build(augmentations=augmentations, extractor=extractor)(noisy_views())
    torch.testing.assert_close(other, plain, atol=1e-3, rtol=0)


def test_tokens_come_of_moved_copies_and_patches_of_recoloured_ones():
    extractor = PixelExtractor()
    build(augmentations=4, extractor=extractor)
    assert len(extractor.seen) == 8
    beside = [images[:, :, :, :8] for images in extractor.seen]  # white, as drawn
    for moved, recoloured in zip(beside[:4], beside[4:], strict=True):
        assert not torch.equal(moved, torch.ones_like(moved))
        assert torch.equal(recoloured, recoloured[..., :1, :1].expand_as(recoloured))
    for recoloured in extractor.seen[4:]:
        assert not torch.equal(recoloured, toy_views())


def test_the_templates_are_seen_once_and_their_copies_follow_the_generator():
    extractor = PixelExtractor()
    classifier = build(augmentations=4, extractor=extractor)
    first, again = classifier(noisy_views()), classifier(noisy_views())
    assert torch.equal(first, again)
    assert len(extractor.seen) == 8 + 2
    assert torch.equal(first, build(augmentations=4)(noisy_views()))
    assert not torch.equal(first, build(augmentations=4, seed=1)(noisy_views()))


def test_templates_carry_no_graph():
    pictures = toy_views().requires_grad_()
    assert not build(pictures=pictures)(noisy_views()).requires_grad


def test_a_template_too_few_is_refused():
    with pytest.raises(ConfigError, match="3 templates for 4 classes"):
        Templates(NAMES, toy_views()[:3])


def test_the_defaults_are_the_papers():
    options = MatchingOptions()
    assert (options.patch_temperature, options.pose_temperature, options.grid) == (0.01, 0.05, 16)
    assert (options.normalise, options.parts) == ("paper", "both")
