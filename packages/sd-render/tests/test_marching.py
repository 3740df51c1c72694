"""Samples along rays."""

import torch
from torch import Generator

from sd_core.cameras import rays
from sd_render.marching import march
from sd_render.occupancy import OccupancyGrid, least_density
from sd_render.ray_box import ray_box
from volume_worlds import SoftBall, around


def some_rays(count=200, seed=0):
    generator = Generator().manual_seed(seed)
    origins = 3 * torch.nn.functional.normalize(
        torch.randn(count, 3, generator=generator, dtype=torch.float64), dim=-1
    )
    targets = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    return origins, torch.nn.functional.normalize(targets - origins, dim=-1)


def test_samples_are_the_middles_of_equal_pieces():
    origins, directions = some_rays()
    found = march(origins, directions, half_extent=1.0, samples=7)
    near, far = ray_box(origins, directions, 1.0)
    hit = (far > near).nonzero()[:, 0]
    assert 50 < len(hit) < 200
    assert torch.equal(found.ray, hit.repeat_interleave(7))
    for place, depth, thickness in zip(
        range(len(found.ray)), found.depth, found.thickness, strict=True
    ):
        ray, piece = int(found.ray[place]), (far - near)[found.ray[place]] / 7
        torch.testing.assert_close(thickness, piece)
        torch.testing.assert_close(depth, near[ray] + (place % 7 + 0.5) * piece)


def test_all_samples_lie_in_the_cube_whatever_the_jitter():
    origins, directions = some_rays()
    jitter = torch.rand(len(origins), generator=Generator().manual_seed(1), dtype=torch.float64)
    found = march(origins, directions, half_extent=0.8, samples=9, jitter=jitter)
    assert found.points(origins, directions).abs().max() <= 0.8 + 1e-12


def test_jitter_moves_all_samples_of_a_ray_by_its_share_of_a_piece():
    origins, directions = some_rays()
    jitter = torch.linspace(0, 0.99, len(origins), dtype=torch.float64)
    middle = march(origins, directions, half_extent=1.0, samples=5)
    moved = march(origins, directions, half_extent=1.0, samples=5, jitter=jitter)
    expected = middle.depth + (jitter[middle.ray] - 0.5) * middle.thickness
    torch.testing.assert_close(moved.depth, expected)


def test_only_samples_in_occupied_cells_are_kept():
    origins, directions = some_rays()
    occupied = torch.rand(6, 6, 6, generator=Generator().manual_seed(2)) < 0.3
    everywhere = march(origins, directions, half_extent=1.0, samples=20)
    found = march(origins, directions, half_extent=1.0, samples=20, occupied=occupied)
    points = everywhere.points(origins, directions)
    inside = torch.tensor([bool(occupied[tuple(cell)]) for cell in ((points + 1) * 3).long()])
    assert 0 < inside.sum() < len(inside)
    assert torch.equal(found.ray, everywhere.ray[inside])
    assert torch.equal(found.depth, everywhere.depth[inside])
    assert torch.equal(found.thickness, everywhere.thickness[inside])


def test_a_grid_that_was_never_updated_passes_nothing_over():
    grid = OccupancyGrid(4, torch.device("cpu"))
    assert grid.is_new
    assert grid.occupied(1e30).all()


def test_an_estimate_fades_and_a_new_look_raises_it():
    grid, field = OccupancyGrid(8, torch.device("cpu")), SoftBall()
    generator = Generator().manual_seed(0)
    grid.update(field, generator)
    assert not grid.is_new
    first = grid.densities.clone()
    with torch.no_grad():
        field.radius.fill_(-5.0)  # the ball is gone
    grid.update(field, generator)
    torch.testing.assert_close(grid.densities, 0.6 * first)
    with torch.no_grad():
        field.radius.fill_(0.9)
    grid.update(field, generator)
    assert (grid.densities >= 0.95 * 0.6 * first).all()
    assert grid.densities[4, 4, 4] > 39


def test_cells_are_indexed_by_x_y_and_z():
    grid = OccupancyGrid(8, torch.device("cpu"))
    grid.update(SoftBall(0.2, centre=(0.75, -0.5, 0.1)), Generator().manual_seed(0))
    assert (grid.densities > 20).nonzero().float().mean(0).round().tolist() == [6.0, 2.0, 4.0]


def test_what_is_left_out_dims_a_ray_by_less_than_the_tolerance():
    least = least_density(0.7)
    diagonal = 2 * 0.7 * 3**0.5
    assert 0.99e-3 < 1 - torch.tensor(-least * diagonal, dtype=torch.float64).exp() <= 1e-3


def test_a_camera_inside_the_cube_samples_what_is_in_front_of_it():
    cameras = around(1, elevation=0.0)
    origins, directions = rays(cameras, 4, 4)
    origins = origins.reshape(-1, 3) * 0.2
    found = march(origins, directions.reshape(-1, 3), half_extent=1.0, samples=6)
    assert (found.depth > 0).all()
    assert len(found.ray) == 16 * 6
