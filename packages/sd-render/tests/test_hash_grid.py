"""The scene of a hash-grid NeRF, on the readable encoding."""

from dataclasses import replace

import pytest
import torch
from torch import Generator

from sd_core.config import parse_options
from sd_core.errors import ConfigError
from sd_core.step import Step
from sd_core.testing.contracts import RendererContract
from sd_render.hash_grid import HashGrid, HashGridOptions
from volume_worlds import around, context

SMALL = {
    "levels": 3,
    "log2_table": 8,
    "base_resolution": 4,
    "width": 8,
    "encoding": "eager",
    "size": 12,
    "samples": 16,
    "preview_size": 16,
    "preview_samples": 16,
}


def hashes(**options) -> HashGrid:
    return HashGrid(HashGridOptions(**{**SMALL, **options}), context())


def bumpy(**options) -> HashGrid:
    """With a table that matters."""
    scene = hashes(**options)
    with torch.no_grad():
        scene.field.encoding.table.normal_(std=0.5, generator=Generator().manual_seed(2))
    return scene


def points(count=300, within=0.6):
    return within * (2 * torch.rand(count, 3, generator=Generator().manual_seed(3)) - 1)


class TestHashGrid(RendererContract):
    def make(self, context):
        return HashGrid(HashGridOptions(**SMALL), context)


class TestLitHashGrid(RendererContract):
    """With exact normals in the picture and in a loss, that is, second derivatives."""

    def make(self, context):
        options = {
            "shading": {"diffuse_share": 1.0, "ambient_only_steps": 0, "textureless_share": 0.0},
            "regularisers": {"orientation": 1.0},
            "most_samples": 2000,
        }
        return HashGrid(HashGridOptions(**SMALL, **options), context)


def test_it_begins_as_a_ball():
    field = hashes(blob_radius=0.4, thin=0.0).field
    direction = torch.nn.functional.normalize(points(50), dim=1)
    at = {radius: field.density(radius * direction) for radius in (0.0, 0.4, 0.8)}
    softplus = torch.nn.functional.softplus(torch.tensor([10.0, 0.0, -10.0]))
    for density, expected in zip(at.values(), softplus, strict=True):
        torch.testing.assert_close(density, expected.expand(50), rtol=1e-2, atol=1e-3)


def test_exact_normals_are_those_of_finite_differences():
    """Where the trilinear cells have no edges: on a smooth encoding."""
    exact = bumpy(smooth=True)
    rough = bumpy(smooth=True, normals="finite-differences", normal_spacing=1e-3)
    where = points()
    where = where[exact.field.density(where) > 0.5]
    agreement = (exact.field.normals(where) * rough.field.normals(where)).sum(-1)
    assert len(where) > 50
    assert agreement.median() > 0.999
    assert (agreement > 0.99).float().mean() > 0.9


def test_normals_point_out_of_the_ball():
    direction = torch.nn.functional.normalize(points(50), dim=1)
    normals = hashes().field.normals(0.5 * direction)
    assert (normals * direction).sum(-1).min() > 0.99


def test_a_loss_of_the_exact_normals_reaches_the_table():
    field = bumpy().field.train()
    field.normals(points())[:, 0].sum().backward()
    assert field.encoding.table.grad.abs().sum() > 0


def test_without_a_graph_normals_have_none():
    with torch.no_grad():
        assert not hashes().field.normals(points()).requires_grad


@pytest.mark.parametrize(
    ("step", "levels"), [(0, 1), (99, 1), (100, 2), (149, 2), (150, 3), (5000, 3)]
)
def test_levels_join_one_after_the_other(step, levels):
    scene = bumpy(start_level=1, level_after=100, level_every=50)
    scene.prepare(Step(step, 10000), Generator().manual_seed(0))
    features = scene.field._features(points())
    seen = features.view(-1, 3, 2).abs().sum(dim=(0, 2)) > 0
    assert seen.tolist() == [True] * levels + [False] * (3 - levels)


def test_networks_learn_at_a_share_of_the_encodings_rate():
    groups = hashes(background={"kind": "neural"}, network_rate=0.2).parameter_groups(0.01)
    assert [group["lr"] for group in groups] == pytest.approx([0.01, 0.002, 0.001])
    counted = sum(len(list(group["params"])) for group in groups)
    assert counted == len(list(hashes(background={"kind": "neural"}).parameters())) == 1 + 4 + 3


def test_an_estimate_of_what_is_empty_is_learned_and_saved_with_the_scene():
    scene, generator = hashes(), Generator().manual_seed(0)
    scene.prepare(Step(5000, 10000), generator)
    fresh = hashes()
    fresh.load_state_dict(scene.state_dict())
    cameras = around(1)
    assert torch.equal(scene.eval()(cameras).images, fresh.eval()(cameras).images)
    assert not fresh.occupancy.is_new
    assert 0 < (fresh.occupancy.densities == 0).float().mean() < 1


def test_levels_that_took_part_stay_and_are_saved():
    scene = bumpy(start_level=1, level_after=100, level_every=50)
    scene.prepare(Step(120, 10000), Generator().manual_seed(0))
    scene.prepare(Step(0, 10000), Generator().manual_seed(0))  # a stage that goes on with it
    fresh = bumpy(start_level=1, level_after=100, level_every=50)
    fresh.load_state_dict(scene.state_dict())
    for each in (scene, fresh):
        features = each.field._features(points()).view(-1, 3, 2)
        assert (features.abs().sum(dim=(0, 2)) > 0).tolist() == [True, True, False]


def test_the_size_of_the_world_only_scales_densities():
    small, large = bumpy(half_extent=0.5).field, bumpy(half_extent=1.0).field
    density, colour = small.density_and_colour(points() / 2, points())
    twice, same = large.density_and_colour(points(), points())
    torch.testing.assert_close(density, 2 * twice, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(colour, same)


def test_each_look_at_what_is_empty_is_at_other_points():
    generator, field = Generator().manual_seed(0), bumpy().field
    first, second = (field.cell_densities(4, generator) for _ in range(2))
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (
            {"level_after": 100},
            "renderer: level_after is 100, but no level joins: all 16 are in use from the start. "
            "Set a smaller start_level, or leave level_after out.",
        ),
        (
            {"levels": 8, "start_level": 8, "level_every": 50},
            "renderer: level_every is 50, but no level joins: all 8 are in use from the start. "
            "Set a smaller start_level, or leave level_every out.",
        ),
        (
            {"normal_spacing": 0.02},
            "renderer: normal_spacing is 0.02, but analytic normals ask no neighbours. Leave it "
            'out, or set normals = "finite-differences".',
        ),
    ],
)
def test_what_would_do_nothing_is_refused(told, message):
    with pytest.raises(ConfigError) as caught:
        parse_options(HashGridOptions, told, where="renderer")
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"levels": 8},
        {"start_level": 8, "level_after": 100, "level_every": 50},
        {"normals": "finite-differences", "normal_spacing": 0.02},
    ],
)
def test_options_survive_being_written_down(told):
    options = parse_options(HashGridOptions, told, where="renderer")
    assert parse_options(HashGridOptions, options.resolved({}), where="renderer") == options


def test_looking_at_what_is_empty_shifts_the_draws_of_nothing_else():
    states = []
    for options in ({"cells": 4, "cells_every": 1}, {"cells": 8, "cells_every": 2}):
        scene, generator = hashes(**options), Generator().manual_seed(0)
        for index in range(3):
            scene.prepare(Step(index, 10), generator)
        states.append(generator.get_state())
    assert torch.equal(*states)


def test_a_hash_grid_has_no_total_variation():
    with pytest.raises(ValueError, match="total_variation is for voxels"):
        hashes(regularisers={"total_variation": 1.0})


def test_a_hash_grid_does_not_start_from_another_scene():
    with pytest.raises(ConfigError, match="HashGrid cannot start from this HashGrid"):
        HashGrid(HashGridOptions(**SMALL), replace(context(), previous=hashes()))
