"""The hash grid in plain torch against dictionaries and loops."""

import pytest
import torch
from torch import Generator

from hash_reference import (
    MIXED,
    MIXED_LINEAR,
    DictionaryGrid,
    points_and_corners,
    table_of,
)
from sd_render.encodings.eager_hash import encode
from sd_render.encodings.hash_layout import HashLayout


@pytest.mark.parametrize("layout", [MIXED, MIXED_LINEAR], ids=["smooth", "linear"])
def test_features_are_those_of_the_dictionary(layout):
    assert layout.dense == (True, True, False, False)
    table, points = table_of(layout), points_and_corners(200)
    grid = DictionaryGrid(layout, table)
    expected = torch.tensor([grid.encode(point) for point in points.tolist()])
    torch.testing.assert_close(encode(points, table, layout), expected.double())
    shared = {key[0] for key, vertices in grid.vertices_of.items() if len(vertices) > 1}
    assert shared == {2, 3}  # a hashed level has collisions, a dense one has none


def test_hashes_are_right_where_their_products_leave_32_bits():
    fine = HashLayout(
        levels=2, features=1, log2_table=16, base_resolution=60, growth=800.0, smooth=False
    )
    assert fine.resolutions[1] == 48000  # times 2654435761 is almost 2^47
    table, points = table_of(fine), points_and_corners(100)
    grid = DictionaryGrid(fine, table)
    expected = torch.tensor([grid.encode(point) for point in points.tolist()])
    torch.testing.assert_close(encode(points, table, fine), expected.double())


@pytest.mark.parametrize("smooth", [True, False], ids=["smooth", "linear"])
def test_it_differentiates_twice_in_the_points_and_the_table(smooth):
    tiny = HashLayout(
        levels=2, features=2, log2_table=4, base_resolution=2, growth=2.0, smooth=smooth
    )
    assert tiny.dense == (True, False)
    points = 0.9 * torch.rand(3, 3, generator=Generator().manual_seed(3), dtype=torch.float64)
    inputs = (points.requires_grad_(), table_of(tiny).requires_grad_())
    assert torch.autograd.gradcheck(lambda *given: encode(*given, tiny), inputs)
    assert torch.autograd.gradgradcheck(lambda *given: encode(*given, tiny), inputs)


def test_smooth_weights_have_no_slope_at_a_vertex_and_linear_ones_have():
    at_a_vertex = torch.full((1, 3), 0.5 / (3 - 1), dtype=torch.float64)  # s·x + 1/2 = 1
    for layout, flat in ((MIXED.first(1), True), (MIXED_LINEAR.first(1), False)):
        point = at_a_vertex.clone().requires_grad_()
        (slope,) = torch.autograd.grad(encode(point, table_of(layout), layout).sum(), point)
        assert bool((slope == 0).all()) is flat


def test_single_precision_is_double_precision_to_rounding():
    points, table = points_and_corners(100, torch.float32), table_of(MIXED, torch.float32)
    exact = encode(points.double(), table.double(), MIXED)
    found = encode(points, table, MIXED)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=1e-4)


def test_no_points_have_no_features():
    assert encode(torch.zeros(0, 3), table_of(MIXED, torch.float32), MIXED).shape == (0, 8)
