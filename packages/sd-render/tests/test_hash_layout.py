"""Where the levels of a hash grid lie."""

import pytest

from sd_core.errors import ConfigError
from sd_render.encodings.hash_layout import HashLayout


def layout(**changes):
    shape = {
        "levels": 16,
        "features": 2,
        "log2_table": 19,
        "base_resolution": 16,
        "growth": 1.447269237440378,
        "smooth": False,
    }
    return HashLayout(**shape | changes)


def test_sixteen_levels_of_the_usual_growth_reach_4096():
    assert layout().resolutions[0] == 16
    assert layout().resolutions[-1] == 4096


def test_a_rounding_error_of_the_growth_adds_no_vertex():
    growth = 256 ** (1 / 15)
    assert 16 * growth**15 - 1 > 4095
    assert layout(growth=growth).resolutions[-1] == 4096


def test_a_growth_of_two_doubles_the_resolution():
    assert layout(levels=5, growth=2.0).resolutions == (16, 32, 64, 128, 256)


def test_resolutions_between_whole_numbers_are_rounded_up():
    # 16·1.5² - 1 = 35 cells, 16·1.5³ - 1 = 53 and 16·1.5⁵ - 1 = 120.5
    assert layout(levels=6, growth=1.5).resolutions == (16, 24, 36, 54, 81, 122)


def test_a_level_is_dense_while_its_vertices_fit_the_table():
    small = layout(levels=4, growth=2.0, log2_table=15)  # 32³ = 2^15
    assert small.dense == (True, True, False, False)
    assert small.sizes == (4096, 32768, 32768, 32768)
    assert small.offsets == (0, 4096, 36864, 69632)
    assert small.entries == 102400


def test_its_width_is_that_of_all_levels():
    assert layout(levels=3, features=4).width == 12


def test_the_first_levels_keep_their_places():
    whole = layout()
    part = whole.first(5)
    assert part.levels == 5
    assert part.offsets == whole.offsets[:5]
    assert part.entries == whole.offsets[5]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": 3}, "a hash grid has 1, 2, 4 or 8 features a level, not 3."),
        (
            {"levels": 0},
            "a hash grid needs at least 1 level, a base resolution of at least 2 and a growth of "
            "at least 1, but has 0, 16 and 1.447269237440378.",
        ),
        (
            {"log2_table": 30},
            "log2_table is 30, but a hash grid has from 2^4 to 2^24 entries a level.",
        ),
        (
            {"growth": 2.0},
            "the finest level of the hash grid has resolution 524288, which 32-bit numbers cannot "
            "resolve. Stay below 65536: fewer levels or less growth.",
        ),
    ],
)
def test_impossible_layouts_are_refused(changes, message):
    with pytest.raises(ConfigError) as caught:
        layout(**changes)
    assert str(caught.value) == message
