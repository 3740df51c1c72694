"""What is the voxel grid's own: growth, bounds, normals, harmonics."""

from dataclasses import replace

import pytest
import torch
from torch import Generator

from sd_core.errors import ConfigError
from sd_core.step import Step
from sd_render.spherical_harmonics import spherical_harmonics
from sd_render.voxel_grid import VoxelGrid, VoxelGridOptions
from volume_worlds import around, context, voxels


def test_growing_changes_no_picture():
    scene = voxels(voxels=(9, 17, 33), grow_at=(0.2, 0.6)).eval()
    cameras, generator = around(2), Generator().manual_seed(0)
    scene.prepare(Step(0, 100), generator)
    before = scene(cameras).images
    for step, size in ((19, 9), (20, 17), (59, 17), (60, 33), (99, 33)):
        scene.prepare(Step(step, 100), generator)
        assert scene.field.values.shape[-1] == size
        torch.testing.assert_close(scene(cameras).images, before, rtol=1e-4, atol=1e-5)


def test_only_the_grid_in_use_learns():
    scene = voxels(voxels=(5, 9), grow_at=(0.5,))
    for step, learning in ((0, 0), (60, 1)):
        scene.zero_grad(set_to_none=True)
        scene.prepare(Step(step, 100), Generator().manual_seed(0))
        scene(around(1)).images.sum().backward()
        assert [grid.grad is not None for grid in scene.field.grids] == [
            learning == 0,
            learning == 1,
        ]


def test_a_grown_scene_that_was_loaded_does_not_grow_again():
    scene = voxels(voxels=(5, 9), grow_at=(0.5,))
    scene.prepare(Step(60, 100), Generator().manual_seed(0))
    with torch.no_grad():
        scene.field.values.add_(1.0)
    fresh = voxels(voxels=(5, 9), grow_at=(0.5,))
    fresh.load_state_dict(scene.state_dict())
    fresh.prepare(Step(61, 100), Generator().manual_seed(0))
    assert torch.equal(fresh.field.values, scene.field.values)


def test_the_bound_of_a_cell_is_never_below_a_density_in_it():
    field = voxels().field
    generator = Generator().manual_seed(4)
    points = torch.rand(5000, 3, generator=generator) * 2 - 1
    for cells in (5, 16, 31):
        bound = field.cell_densities(cells, generator)
        index = ((points + 1) / 2 * cells).long().clamp_max(cells - 1)
        at = field.density(points)
        assert (at <= bound[tuple(index.T)] * (1 + 1e-5)).all()
        assert bound.max() <= field.density(field_nodes(17)).max() * (1 + 1e-5)


def field_nodes(size):
    line = torch.linspace(-1, 1, size)
    return torch.stack(torch.meshgrid(line, line, line, indexing="ij"), -1).view(-1, 3)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"voxels": [9, 17], "grow_at": []}, "2 grids need 1 rising shares"),
        ({"voxels": [9, 17, 33], "grow_at": [0.5, 0.2]}, "3 grids need 2 rising shares"),
    ],
)
def test_every_next_grid_needs_its_time(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        VoxelGridOptions(**options)


def test_harmonics_colour_a_point_by_where_it_is_seen_from():
    field = voxels(voxels=(3,), harmonics=1).field
    with torch.no_grad():
        field.values.zero_()
        field.values[0, 1 + 3] = 2.0  # red's coefficient of the last harmonic of degree 1
    direction = torch.nn.functional.normalize(torch.tensor([[0.8, 0.3, 0.1]]), dim=1)
    basis = spherical_harmonics(direction, 1)[0, 3]
    _, there = field.density_and_colour(torch.zeros(1, 3), direction)
    _, back = field.density_and_colour(torch.zeros(1, 3), -direction)
    torch.testing.assert_close(there[0, 0], (2 * basis).sigmoid())
    torch.testing.assert_close(back[0, 0], (-2 * basis).sigmoid())
    assert abs(basis) > 0.1
    assert there[0, 1] == back[0, 1] == 0.5


def test_normals_of_a_ramp_are_right_up_to_the_walls():
    field = voxels(voxels=(9,)).field
    line = torch.linspace(-1, 1, 9)
    with torch.no_grad():
        field.values[0, 0] = -(line[:, None, None] + line[:, None] + line)
    where = torch.tensor([[1.0, 0.0, 0.0], [0.95, -1.0, 0.3], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(field.normals(where), torch.full((3, 3), 3**-0.5))


def test_a_later_voxel_grid_begins_as_the_one_before():
    first = voxels(voxels=(9,))
    finer = VoxelGridOptions(voxels=(17,), grow_at=(), size=16)
    second = VoxelGrid(finer, replace(context(), previous=first)).eval()
    pictures = [scene(around(2)).images for scene in (first.eval(), second)]
    torch.testing.assert_close(*pictures, rtol=1e-4, atol=1e-5)


def test_a_volume_that_cannot_begin_as_the_scene_before_is_refused():
    other = VoxelGridOptions(voxels=(9,), grow_at=(), half_extent=2.0)
    with pytest.raises(ConfigError, match=r"VoxelGrid cannot start from this VoxelGrid.*scratch"):
        VoxelGrid(other, replace(context(), previous=voxels()))
