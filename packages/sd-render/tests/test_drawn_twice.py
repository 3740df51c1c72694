"""Views that are drawn in parts: twice each, and nothing but their maps is kept in between."""

from dataclasses import replace

import pytest
import torch
from torch import Generator

from bytes_held import bytes_held
from sd_core.step import Step
from sd_render.hash_grid import HashGrid, HashGridOptions
from volume_worlds import around, context, voxels

STEP = Step(0, 10000)
SIZE, SAMPLES, VIEWS = 16, 32, 2
RAYS = VIEWS * SIZE**2
# What asks for normals in a loss, for every map, and for every parameter.
ALL = {
    "size": SIZE,
    "samples": SAMPLES,
    "background": {"kind": "neural"},
    "shading": {"diffuse_share": 1.0, "textureless_share": 0.0},
    "regularisers": {"orientation": 1.0, "entropy": 1.0, "depth_variance": 1.0, "sparsity": 1.0},
}


def hashes(parts, **options):
    """On the readable encoding, with a table that matters."""
    small = {"levels": 2, "log2_table": 8, "base_resolution": 4, "width": 8, "encoding": "eager"}
    told = {**small, **ALL, "most_samples": RAYS * SAMPLES // parts, **options}
    scene = HashGrid(HashGridOptions(**told), context())
    with torch.no_grad():
        scene.field.encoding.table.normal_(std=0.5, generator=Generator().manual_seed(2))
    scene.prepare(STEP, Generator().manual_seed(3))
    return scene


def grid(parts):
    scene = voxels(**ALL, most_samples=RAYS * SAMPLES // parts)
    scene.prepare(STEP, Generator().manual_seed(3))
    return scene


def loss_of(scene, cameras):
    rendering = scene(cameras)
    return rendering.images.square().sum() + scene.regularisation(rendering)


@pytest.mark.parametrize("parts", [4, 16])
def test_parts_hold_their_maps_alone_even_with_analytic_normals(parts):
    scene, cameras = hashes(parts), around(VIEWS)
    assert bytes_held(lambda: scene(cameras)) < 128 * RAYS
    assert bytes_held(lambda: hashes(1)(cameras)) > 100 * 128 * RAYS


def test_each_part_is_drawn_once_before_the_gradient_and_once_for_it():
    scene, calls = hashes(4), []
    ask = scene.field.density_and_colour
    scene.field.density_and_colour = lambda *points: calls.append(None) or ask(*points)
    loss = loss_of(scene, around(VIEWS))
    assert len(calls) == 4
    loss.backward()
    assert len(calls) == 8


@pytest.mark.parametrize("make", [hashes, grid])
def test_the_gradient_of_every_parameter_is_the_undivided_one(make):
    found = []
    for parts in (1, 4):
        scene = make(parts)
        loss_of(scene, around(VIEWS)).backward()
        found.append([parameter.grad for parameter in scene.parameters()])
    assert len(found[0]) == (8 if make is hashes else 4)
    for one, other in zip(*found, strict=True):
        assert one.abs().max() > 0
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-5 * float(one.abs().max()))


def test_a_gradient_can_be_asked_for_without_being_stored():
    scene = hashes(4)
    table = scene.field.encoding.table
    (slope,) = torch.autograd.grad(loss_of(scene, around(VIEWS)), table)
    assert table.grad is None
    loss_of(scene, around(VIEWS)).backward()
    assert torch.equal(table.grad, slope)


def test_the_cameras_get_the_gradient_that_they_get_undivided():
    found = []
    for parts in (1, 4):
        pose = around(VIEWS).camera_to_world.clone().requires_grad_()
        scene = hashes(parts)
        loss_of(scene, replace(around(VIEWS), camera_to_world=pose)).backward()
        found.append(pose.grad)
    assert found[0].abs().max() > 0
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-3)


def test_what_does_not_learn_gets_no_gradient():
    scene = hashes(4)
    scene.field.requires_grad_(False)
    loss_of(scene, around(VIEWS)).backward()
    assert all(parameter.grad is None for parameter in scene.field.parameters())
    assert all(parameter.grad.any() for parameter in scene.background.parameters())


def test_where_nothing_learns_there_is_no_graph():
    scene = hashes(4).requires_grad_(False)
    assert not scene(around(VIEWS)).images.requires_grad


def test_parts_are_not_differentiated_twice_in_silence():
    scene = hashes(4)
    table = scene.field.encoding.table
    (slope,) = torch.autograd.grad(loss_of(scene, around(VIEWS)), table, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()
