"""The level of the surface: agreement of outlines, and what is said where there is none."""

import math

import pytest
import torch

from export_fields import Balls, Even, ball, rendered_radius
from sd_core.errors import ConfigError
from sd_render.export.density_grid import density_grid
from sd_render.export.iso_level import automatic_level, best_level, choose_level, ray_sums


def overlap(largest, seen, level):
    covered = largest > level
    return float((covered & seen).sum() / (covered | seen).sum())


def test_best_level_is_the_best_of_all_levels():
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        largest = 1 + torch.rand(50, generator=generator).mul(20).round()  # with ties
        seen = torch.rand(50, generator=generator) < 0.2 + largest / 40
        seen[0] = True
        level, claimed = best_level(largest, seen)
        of_all = max(overlap(largest, seen, value) for value in torch.arange(0.5, 22))
        assert claimed == pytest.approx(of_all)
        assert overlap(largest, seen, level) == pytest.approx(of_all)


def test_among_equally_good_levels_the_geometric_middle_is_taken():
    largest = torch.tensor([400.0, 300.0, 100.0, 1.0, 0.5])
    seen = torch.tensor([True, True, True, False, False])
    assert best_level(largest, seen) == (pytest.approx(10.0), 1.0)  # all from 1 to 100


def test_a_plateau_that_reaches_down_to_zero_still_has_a_middle():
    level, agreement = best_level(torch.tensor([100.0, 0.0]), torch.tensor([True, False]))
    assert 1 < level < 10 and agreement == 1.0


@pytest.mark.parametrize("steepness", [20.0, 40.0, 300.0])
def test_the_automatic_surface_is_as_large_as_the_rendered_one(steepness):
    field = ball(steepness=steepness)
    level = automatic_level(field, density_grid(field, 48))
    assert field.radius_of(level.value) == pytest.approx(rendered_radius(field), rel=0.01)
    assert "its outline agrees best with the rendered one" in level.reason
    assert "foggy" not in level.reason


def test_rays_see_the_opacity_of_a_ball():
    """The share of rays that a ball of radius ρ stops, in the disc round its matter, is its area's.

    Of a denser disc nothing beyond the ball is looked at: 12 views, one of each side.
    """
    field = ball(steepness=300.0)
    sums = ray_sums(field, density_grid(field, 64))
    stopped = sums.opacity > 0.5
    assert float(sums.opacity.max()) > 1 - 1e-6
    assert float(sums.largest_density.max()) == pytest.approx(field.top, rel=1e-3)
    around = math.sqrt(0.6**2 / float(stopped.float().mean()))
    assert 0.6 < around < 0.72  # two cells of 2/63 and a little


def test_the_automatic_level_is_one_that_the_grid_has():
    """Also where all grid points happen to lie in thin spots, so that rays see far more."""

    class Spotted(Balls):
        def density(self, points):
            thick = torch.sin(points / (2 / 15) * math.pi + math.pi / 2).square().amax(dim=1)
            return super().density(points) * (0.02 + thick)

    field = Spotted((0.0, 0.0, 0.0, 0.6), steepness=1e4)
    grid = density_grid(field, 16)
    assert 0 < automatic_level(field, grid).value < grid.most
    assert float(ray_sums(field, grid).largest_density.max()) > 10 * grid.most


def test_a_user_is_told_why_fog_has_no_good_outline():
    field = Even(top=1.0)  # density 1/2: a ray is half opaque after 1.39
    level = automatic_level(field, density_grid(field, 16))
    assert "the scene is foggy" in level.reason


def test_where_nothing_is_opaque_the_message_says_how_much_there_is():
    field = ball(top=0.2)
    with pytest.raises(ConfigError) as refused:
        automatic_level(field, density_grid(field, 32))
    message = str(refused.value)
    # 0.2 over the diameter of 1.2: 1 - exp(-0.24) is 21 %.
    assert "no surface to export" in message and "the most is 21 %" in message
    assert "to 0.2 on the grid of 32³ points" in message and "Train longer" in message


def test_an_empty_field_is_said_to_be_empty():
    field = Even(top=0.0)
    with pytest.raises(ConfigError, match=r"the most is 0 %. The density goes from 0 to 0 on"):
        automatic_level(field, density_grid(field, 16))


def test_a_level_of_the_users_own_is_taken():
    field = ball()
    level = choose_level(field, density_grid(field, 16), 25.0)
    assert level.value == 25.0 and "as asked for" in level.reason


@pytest.mark.parametrize("asked", [1e-25, 200.0, 1000.0])
def test_a_level_that_the_density_never_has_is_refused_with_its_range(asked):
    field = ball()
    with pytest.raises(ConfigError, match=r"level is .* from \S+ to 200 on the grid of 17³"):
        choose_level(field, density_grid(field, 17), asked)


def test_a_scene_that_diverged_is_refused():
    with pytest.raises(ConfigError, match="not a finite number at 4096 of 4096 points"):
        density_grid(Even(top=float("nan")), 16)
