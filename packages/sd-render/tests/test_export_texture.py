"""The texture: which texels a triangle owns, what is painted on them, and no seams."""

import numpy as np
import pytest
import torch

from export_fields import Balls
from sd_render.export import texels as texels_module
from sd_render.export.mesh_options import MeshOptions
from sd_render.export.texels import covered_texels, spread
from sd_render.export.texture import baked_texture, seen_from_outside
from sd_render.export.unwrapping import unwrapped
from sd_render.export.volume_export import light_surface

RIGHT = np.array([[0.1, 0.1], [0.9, 0.1], [0.1, 0.9]])


class Painted(Balls):
    """The same colour all the way down."""

    def colour(self, points, directions):
        return super().colour(torch.nn.functional.normalize(points, dim=1), directions)


def looked_up(texture, uv):
    """Bilinear, v up, as viewers do it."""
    image = torch.from_numpy(texture.copy()).double().permute(2, 0, 1)[None]
    grid = torch.from_numpy(np.stack([2 * uv[:, 0] - 1, 1 - 2 * uv[:, 1]], axis=1))[None, None]
    looked = torch.nn.functional.grid_sample(
        image, grid, align_corners=False, padding_mode="border"
    )
    return looked[0, :, 0].T.numpy()


@pytest.fixture(scope="module")
def painted():
    field = Painted((0.0, 0.0, 0.0, 0.6))
    mesh, cell, _ = light_surface(field, MeshOptions(resolution=32, faces=800))
    flat = unwrapped(mesh, 256)
    return field, flat, cell, baked_texture(field, flat, cell, 256)


def distance_to_triangle(corners, points):
    """To the nearest of many points on it."""
    line = np.linspace(0, 1, 101)
    first, second = (part.ravel() for part in np.meshgrid(line, line))
    first, second = np.where(first + second > 1, (1 - first, 1 - second), (first, second))
    a, b, c = corners
    on_it = a + first[:, None] * (b - a) + second[:, None] * (c - a)
    return np.linalg.norm(points[:, None] - on_it, axis=2).min(axis=1)


@pytest.mark.parametrize("corners", [RIGHT, np.array([[0.1, 0.1], [0.9, 0.4], [0.5, 0.26]])])
def test_texels_are_those_near_enough_to_the_triangle(corners):
    size = 16
    texels = covered_texels(corners, np.array([[0, 1, 2]]), size)
    held = np.zeros((size, size), dtype=bool)
    held[texels.rows, texels.columns] = True
    row, column = np.indices((size, size)).reshape(2, -1)
    centres = np.stack([(column + 0.5) / size, 1 - (row + 0.5) / size], axis=1)
    away = size * distance_to_triangle(corners, centres)
    undecided = np.abs(away - texels_module.RIM) < 0.1
    np.testing.assert_array_equal(held.ravel()[~undecided], (away < texels_module.RIM)[~undecided])


def test_a_rim_texel_takes_the_nearest_point_of_a_sliver():
    """Barycentrics beyond a sliver's tip are huge: clipping them would lead far from the tip."""
    sliver = np.array([[0.8, 0.8], [0.8, 0.801], [0.4, 0.4], [0.0, 0.0]])
    texels = covered_texels(sliver, np.array([[0, 1, 2]]), 16)
    corners = np.concatenate([sliver, np.zeros((4, 1))], axis=1)
    place = 16 * texels.interpolate(corners, np.array([[0, 1, 2]]))[:, :2]
    centre = np.stack([texels.columns + 0.5, 16 - (texels.rows + 0.5)], axis=1)
    assert len(place) > 6
    assert np.linalg.norm(place - centre, axis=1).max() <= texels_module.RIM + 0.02


def test_barycentrics_give_back_the_texel_centre():
    size = 32
    texels = covered_texels(RIGHT, np.array([[0, 1, 2]]), size)
    corners = np.concatenate([RIGHT, np.zeros((3, 1))], axis=1)
    place = texels.interpolate(corners, np.array([[0, 1, 2]]))[:, :2]
    centre = np.stack([(texels.columns + 0.5) / size, 1 - (texels.rows + 0.5) / size], axis=1)
    inside = (centre >= 0.1).all(axis=1) & (centre.sum(axis=1) <= 1)
    assert inside.sum() > 300
    np.testing.assert_allclose(place[inside], centre[inside], atol=1e-12)
    np.testing.assert_allclose(place, centre, atol=2 / size)  # the rim's are moved onto the edge
    np.testing.assert_allclose(texels.weights.sum(axis=1), 1)
    assert texels.weights.min() >= 0


def test_a_texel_between_two_triangles_belongs_to_the_one_that_it_is_inside():
    uv = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    for order in ([[0, 1, 2], [1, 3, 2]], [[1, 3, 2], [0, 1, 2]]):
        texels = covered_texels(uv, np.array(order), 15)
        assert len(texels.rows) == 15 * 15
        u, v = (texels.columns + 0.5) / 15, 1 - (texels.rows + 0.5) / 15
        lower = order.index([0, 1, 2])
        off_the_diagonal = np.abs(u + v - 1) > 1e-9
        np.testing.assert_array_equal(
            (texels.faces == lower)[off_the_diagonal], (u + v < 1)[off_the_diagonal]
        )


def test_a_triangle_smaller_than_a_texel_has_one_all_the_same():
    uv = np.array([[0.51, 0.51], [0.52, 0.51], [0.51, 0.52]])
    assert len(covered_texels(uv, np.array([[0, 1, 2]]), 8).rows) > 0


def test_triangles_without_area_hold_texels_only_where_no_other_does():
    whole = [[0.2, 0.2], [0.8, 0.2], [0.2, 0.8]]
    line, dot = [[0.1, 0.1], [0.9, 0.9], [0.3, 0.3]], [[0.05, 0.95]] * 3
    uv = np.array([*line, *dot, *whole])
    texels = covered_texels(uv, np.arange(9).reshape(3, 3), 16)
    u, v = (texels.columns + 0.5) / 16, 1 - (texels.rows + 0.5) / 16
    assert np.isfinite(texels.weights).all()
    inside = (u > 0.2) & (v > 0.2) & (u + v < 1)
    assert inside.sum() > 30 and (texels.faces[inside] == 2).all()
    assert (texels.faces[(u > 0.6) & (v > 0.6)] == 0).all()
    assert (texels.faces[(u < 0.1) & (v > 0.9)] == 1).all()


def test_portions_change_nothing(painted, monkeypatch):
    _, flat, _, _ = painted
    whole = covered_texels(flat.uv, flat.faces, 64)
    monkeypatch.setattr(texels_module, "CANDIDATES_AT_ONCE", 500)
    in_portions = covered_texels(flat.uv, flat.faces, 64)
    np.testing.assert_array_equal(whole.rows, in_portions.rows)
    np.testing.assert_allclose(whole.weights, in_portions.weights)


def test_uncovered_texels_take_the_nearest_colour():
    picture = np.zeros((4, 6, 3), dtype=np.uint8)
    picture[1, 0], picture[2, 5] = 10, 20
    covered = picture[..., 0] > 0
    expected = np.zeros((4, 6), dtype=np.uint8)
    for row in range(4):
        for column in range(6):
            far = [(row - 1) ** 2 + column**2, (row - 2) ** 2 + (column - 5) ** 2]
            expected[row, column] = (10, 20)[int(np.argmin(far))]
    np.testing.assert_array_equal(spread(picture, covered)[..., 0], expected)


def test_the_texture_shows_the_fields_colour(painted):
    field, flat, cell, texture = painted
    weights = np.random.default_rng(0).dirichlet([1, 1, 1], len(flat.faces))
    uv, place, normals = (
        np.einsum("fk,fki->fi", weights, values[flat.faces])
        for values in (flat.uv, flat.vertices, flat.normals)
    )
    shown = looked_up(texture, uv)
    assert np.abs(shown - seen_from_outside(field, place, normals, cell)).max() < 4  # of 255
    own = 255 * field.colour(torch.from_numpy(place).float(), None).numpy()
    assert np.abs(shown - own).max() < 4


def test_both_sides_of_a_seam_show_the_same(painted):
    _, flat, _, texture = painted
    shown = looked_up(texture, flat.uv)
    _, place = np.unique(flat.vertices, axis=0, return_inverse=True)
    of_one_place = [np.flatnonzero(place == one) for one in range(place.max() + 1)]
    spans = [np.ptp(shown[copies], axis=0).max() for copies in of_one_place if len(copies) > 1]
    assert len(spans) > 20 and max(spans) < 5 and np.mean(spans) < 2  # of 255


def test_gutters_are_filled(painted):
    _, _, _, texture = painted
    assert texture.min() > 10  # the field's colours begin at 0.1·255; an unfilled texel is 0


def test_charts_lie_apart(painted):
    """No place of the texture is used twice: the charts' areas sum to the texels inside them."""
    _, flat, _, _ = painted
    a, b, c = np.moveaxis(flat.uv[flat.faces], 1, 0)
    (ux, uy), (vx, vy) = (b - a).T, (c - a).T
    area = np.abs(ux * vy - uy * vx).sum() / 2
    texels = covered_texels(flat.uv, flat.faces, 512)
    assert 0.3 < area < len(texels.rows) / 512**2
    assert flat.uv.min() >= 0 and flat.uv.max() <= 1
