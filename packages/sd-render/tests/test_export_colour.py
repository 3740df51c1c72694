"""The colour of a surface as somebody sees it."""

import torch

from export_fields import Even, Shape, ball
from sd_render.export.surface_colour import (
    front_to_back_weights,
    piece_ends,
    surface_colours,
)

UP = torch.tensor([[0.0, 0.0, 1.0]])


class Layers(Shape):
    """Solid below z = 0: red paint 0.02 thick on a green body."""

    def distance(self, points):
        return -points[:, 2]

    def colour(self, points, directions):
        paint = (points[:, 2] > -0.02).float()
        return torch.stack([paint, 1 - paint, torch.zeros_like(paint)], dim=1)


def test_weights_are_what_is_left_of_the_light_times_what_each_piece_stops():
    depths = 3 * torch.rand(5, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights = front_to_back_weights(depths)
    light = torch.ones(5, dtype=torch.float64)
    for depth, weight in zip(depths.unbind(dim=1), weights.unbind(dim=1), strict=True):
        stopped = light * (1 - torch.exp(-depth))
        torch.testing.assert_close(weight, stopped)
        light = light - stopped


def test_a_ray_begins_outside_and_goes_deeper_inside():
    ends = piece_ends()
    assert ends[0] == -2 and bool((ends.diff() > 0).all()) and ends[-1] > 6
    assert 0.0 in ends.tolist()


def test_paint_hides_what_is_under_it():
    field = Layers(top=1e4, steepness=1e4)
    seen = surface_colours(field, torch.zeros(1, 3), UP, 0.02)
    torch.testing.assert_close(seen, torch.tensor([[1.0, 0.0, 0.0]]), atol=1e-3, rtol=0)


def test_thin_paint_lets_the_body_shine_through_as_the_renders_do():
    """With density s the paint stops 1 - exp(-s·0.02) of the light, and the body the rest."""
    field = Layers(top=40.0, steepness=1e5)
    seen = surface_colours(field, torch.zeros(1, 3), UP, 0.02)[0]
    reach = 0.02 * float(piece_ends()[-1])
    paint, all_of_it = (1 - torch.exp(torch.tensor([-40 * 0.02, -40 * reach]))).tolist()
    assert abs(float(seen[0]) - paint / all_of_it) < 0.03
    assert abs(float(seen.sum()) - 1) < 1e-4


def test_colours_are_looked_up_in_the_direction_of_sight():
    class Facing(Shape):
        def distance(self, points):
            return 0.5 - points.norm(dim=1)

        def colour(self, points, directions):
            return (directions + 1) / 2

    normals = torch.nn.functional.normalize(
        torch.tensor([[1.0, 2.0, 3.0], [-1.0, 0.0, 1.0]]), dim=1
    )
    seen = surface_colours(Facing(), 0.5 * normals, normals, 0.03)
    torch.testing.assert_close(seen, (1 - normals) / 2, atol=1e-4, rtol=0)


def test_where_there_is_nothing_the_colour_is_still_the_fields_own():
    field = Even(top=0.0)
    seen = surface_colours(field, torch.zeros(1, 3), UP, 0.01)
    torch.testing.assert_close(seen, field.colour(torch.zeros(1, 3), UP), atol=0.05, rtol=0)


def test_the_field_is_not_asked_outside_its_cube():
    class Strict(Even):
        def density(self, points):
            assert bool((points.abs() <= self.half_extent).all())
            return super().density(points)

    at_the_wall = torch.tensor([[0.0, 0.0, 1.0]])
    seen = surface_colours(Strict(), at_the_wall, UP, 0.02)
    assert bool(seen.isfinite().all()) and bool((seen > 0).all())


def test_no_points_have_no_colours():
    assert surface_colours(ball(), torch.zeros(0, 3), torch.zeros(0, 3), 0.02).shape == (0, 3)
