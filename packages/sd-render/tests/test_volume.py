"""Volumes seen by cameras."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Generator

from bytes_held import bytes_held
from sd_core.cameras import orbit_cameras
from sd_core.errors import ConfigError
from sd_core.step import Step
from sd_core.testing.contracts import RendererContract
from sd_render.occupancy import least_density
from sd_render.voxel_grid import VoxelGrid, VoxelGridOptions
from volume_worlds import around, context, slow_picture, voxels

SMALL = {"voxels": (9,), "grow_at": (), "size": 12, "samples": 16, "preview_size": 16}
STEP = Step(5000, 10000)


class TestVoxelGrid(RendererContract):
    def make(self, context):
        return VoxelGrid(VoxelGridOptions(**SMALL), context)


class TestLitVoxelGrid(RendererContract):
    """With light, a learned environment, colours that change with the view, rays in parts."""

    def make(self, context):
        options = {
            "harmonics": 2,
            "most_samples": 500,
            "background": {"kind": "neural"},
            "shading": {"diffuse_share": 1.0, "ambient_only_steps": 0, "textureless_share": 0.0},
        }
        return VoxelGrid(VoxelGridOptions(**SMALL, **options), context)


def test_pictures_equal_those_of_a_slow_renderer():
    scene, cameras = voxels(size=8, samples=24).eval(), around(2)
    seen = scene(cameras)
    slow = slow_picture(scene.field, cameras, 8, 24)
    fast = torch.cat([seen.images, seen.opacity, seen.depth], dim=1)
    torch.testing.assert_close(fast.double(), slow, rtol=1e-4, atol=2e-5)


def test_passing_over_empty_space_changes_no_pixel_beyond_a_thousandth():
    scene, cameras = voxels(samples=64, size=24).eval(), around(6)
    dense = scene(cameras).images  # nobody has looked yet what is empty
    scene.prepare(STEP, Generator().manual_seed(0))
    assert scene.occupancy.occupied(least_density(1.0)).float().mean() < 0.7
    difference = (scene(cameras).images - dense).abs().max()
    assert difference < 1e-3
    # That the bound is kept is no accident of this scene: just over it, all is asked.
    with torch.no_grad():
        scene.occupancy.densities.fill_(1.01 * least_density(1.0))
    assert torch.equal(scene(cameras).images, dense)


def test_previews_ask_for_the_colour_of_what_is_seen_and_lose_no_more_than_a_thousandth():
    scene, cameras = voxels(size=24, preview_size=24, samples=64, preview_samples=64), around(6)
    asked, colour = [], scene.field.density_and_colour
    scene.field.density_and_colour = lambda points, directions: (
        asked.append(len(points)) or colour(points, directions)
    )
    preview, picture = scene.preview(cameras), scene.eval()(cameras)
    assert asked[0] < 0.4 * asked[1]
    for name in ("images", "opacity"):
        assert (getattr(preview, name) - getattr(picture, name)).abs().max() < 1e-3


def test_early_on_nothing_counts_as_empty():
    scene, cameras = voxels(empty_after=0.5), around(1)
    with torch.no_grad():
        scene.field.values.fill_(-20.0)
    pictures, gradients = [], []
    for index in (49, 50):
        scene.prepare(Step(index, 100), Generator().manual_seed(0))
        scene.zero_grad()
        pictures.append(scene(cameras).images)
        pictures[-1].sum().backward()
        gradients.append(scene.field.values.grad.abs().sum())
    assert torch.equal(*pictures)  # white
    assert gradients[0] > 0 and gradients[1] == 0


def test_fog_is_nothing_but_may_become_something():
    config = VoxelGridOptions(thin=0.1, half_extent=0.5, density_unit=3.0)
    density = torch.tensor([1e-3, 0.1, 0.2, 0.3, 5.0], dtype=torch.float64)
    raw = (density / 6).expm1().log().requires_grad_()  # 6·softplus(raw) = density
    seen = config.activated(raw)
    expected = torch.tensor([0.0, 0.0, 0.0, 0.1, 4.8], dtype=torch.float64)
    torch.testing.assert_close(seen, expected)
    seen.sum().backward()
    torch.testing.assert_close(raw.grad, 6 * raw.detach().sigmoid())


def test_a_rotated_scene_seen_by_a_rotated_camera_gives_the_same_picture():
    scene, turned = voxels().eval(), voxels().eval()
    with torch.no_grad():  # x → y, y → -x: the grid is indexed by z, y, x
        turned.field.grids[0].copy_(scene.field.grids[0].transpose(3, 4).flip(4))
    straight = scene(around(3))
    rotated = turned(around(3, start=math.pi / 2))
    torch.testing.assert_close(rotated.images, straight.images, rtol=1e-4, atol=1e-5)
    assert (scene(around(3, start=math.pi / 2)).images - straight.images).abs().max() > 0.05


def test_drawing_in_parts_changes_neither_pictures_nor_gradients():
    whole, parts = voxels(), voxels(most_samples=1000)
    for scene in (whole, parts):
        scene.prepare(STEP, Generator().manual_seed(3))
        scene(around(2)).images.square().sum().backward()
    one, other = (scene.field.grids[0].grad for scene in (whole, parts))
    assert one.abs().max() > 0
    torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(parts(around(2)).images, whole(around(2)).images)


def test_what_is_kept_for_the_gradient_is_bounded():
    def kept(scene):
        scene.prepare(STEP, Generator().manual_seed(3))
        return bytes_held(lambda: scene(around(2)))

    assert kept(voxels(size=32, most_samples=4000)) < kept(voxels(size=32)) / 10


def test_the_size_follows_its_schedule():
    scene = voxels(size=[[0, 8], [100, 12]])
    for step, size in ((0, 8), (99, 8), (100, 12), (5000, 12)):
        scene.prepare(Step(step, 6000), Generator().manual_seed(0))
        assert scene(around(1)).images.shape == (1, 3, size, size)
    assert scene.preview(around(1)).images.shape == (1, 3, 128, 128)


def test_normals_point_out_of_a_ball():
    scene = VoxelGrid(VoxelGridOptions(voxels=(33,), grow_at=()), context())
    directions = torch.nn.functional.normalize(
        torch.randn(500, 3, generator=Generator().manual_seed(0)), dim=-1
    )
    normals = scene.field.normals(0.5 * directions)
    assert (normals * directions).sum(-1).min() > 0.99
    seen = scene.preview(around(4))
    middle = seen.normals[:, :, 64, 64]
    assert (middle * around(4).direction).sum(-1).min() > 0.99


def test_depth_is_the_distance_to_what_is_seen():
    scene = VoxelGrid(VoxelGridOptions(voxels=(33,), grow_at=(), blob_strength=10.0), context())
    depth = scene.preview(around(2)).depth[:, 0, 64, 64]
    assert (depth - (2.5 - 0.5)).abs().max() < 0.05


def test_in_training_the_jitter_is_drawn_anew_each_step():
    scene, generator = voxels(), Generator().manual_seed(0)
    pictures = []
    for _ in range(2):
        scene.prepare(STEP, generator)
        pictures.append([scene(around(2)).images for _ in range(2)])
    assert torch.equal(*pictures[0]) and torch.equal(*pictures[1])
    assert not torch.equal(pictures[0][0], pictures[1][0])


@pytest.mark.parametrize(
    "options",
    [
        {"background": {"random_share": 0.7}},
        {"shading": {"diffuse_share": 0.5, "ambient_only_steps": 0}},
        {"regularisers": {"sparsity": 1.0}},
    ],
)
def test_no_option_shifts_the_draws_of_another(options):
    plain, other = Generator().manual_seed(0), Generator().manual_seed(0)
    voxels().prepare(STEP, plain)
    voxels(**options).prepare(STEP, other)
    assert torch.equal(plain.get_state(), other.get_state())


def test_a_random_background_is_one_colour_behind_each_picture():
    scene = voxels(background={"random_share": 1.0}, blob_strength=0.0, voxels=(3,))
    with torch.no_grad():
        scene.field.grids[0][0, 0] = -30.0  # nothing there
    scene.prepare(STEP, Generator().manual_seed(0))
    colours = scene(around(3)).images
    assert torch.equal(colours, colours[:, :, :1, :1].expand_as(colours))
    assert len({tuple(colour.tolist()) for colour in colours[:, :, 0, 0]}) == 3


def test_plaster_has_no_colour_and_is_brightest_towards_its_light():
    scene = voxels(
        shading={"diffuse_share": 1.0, "textureless_share": 1.0, "ambient_only_steps": 0},
        background={"colour": (0.0, 0.0, 0.0)},
    )
    scene.prepare(STEP, Generator().manual_seed(0))
    cameras = around(1)
    towards = scene(cameras).images
    torch.testing.assert_close(towards[:, 0], towards[:, 2])
    behind = scene(replace(cameras, light_position=-cameras.light_position)).images
    assert behind.sum() < 0.3 * towards.sum()


@pytest.mark.parametrize(
    "name",
    ["sparsity", "opaqueness", "entropy", "orientation", "depth_variance", "total_variation"],
)
def test_every_regulariser_is_weighted_by_its_schedule_and_moves_the_scene(name):
    scene = voxels(regularisers={name: [[0, 0.0], [10, 20.0]]})
    cameras, totals = around(2), []
    for step in (0, 5, 10):
        scene.prepare(Step(step, 20), Generator().manual_seed(0))
        totals.append(scene.regularisation(scene(cameras)))
    assert totals[0] is None
    assert totals[2].item() > 0
    torch.testing.assert_close(totals[2], 2 * totals[1], rtol=0.2, atol=1e-6)
    totals[2].backward()
    assert scene.field.grids[0].grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"distance": torch.full((2,), 0.3)}, "camera 0 stands 0.3 from the origin, inside"),
        ({"vertical_fov": torch.tensor([1.0, 0.0])}, "camera 1 has a field of view of 0°"),
        ({"vertical_fov": torch.tensor([1.0, 3.5])}, "camera 1 has a field of view of 200"),
        ({"distance": torch.tensor([2.0, math.nan])}, "camera 1 has a pose or a field of view"),
    ],
)
def test_a_view_that_cannot_be_drawn_is_refused_by_name(change, complaint):
    told = {
        "azimuth": torch.zeros(2),
        "elevation": torch.zeros(2),
        "distance": torch.full((2,), 2.0),
        "vertical_fov": torch.ones(2),
    }
    with pytest.raises(ConfigError, match=complaint):
        voxels()(orbit_cameras(**{**told, **change}))


def test_a_squashed_pose_is_refused():
    cameras = around(2)
    squashed = cameras.camera_to_world.clone()
    squashed[1, :3, 0] *= 0.5
    with pytest.raises(ConfigError, match="camera 1 has axes that are not of length 1"):
        voxels()(replace(cameras, camera_to_world=squashed))


def test_a_picture_between_two_looks_shows_what_formed_since():
    scene, cameras = voxels(cells_every=1000), around(2)
    with torch.no_grad():
        scene.field.values.fill_(-20.0)
    scene.prepare(Step(5000, 10000), Generator().manual_seed(0))
    with torch.no_grad():
        scene.field.values.fill_(5.0)
    before = scene.occupancy.densities.clone()
    assert scene.preview(cameras).opacity[:, :, 64, 64].min() > 0.99
    assert torch.equal(scene.occupancy.densities, before)


def test_what_is_empty_is_looked_at_every_so_many_steps():
    scene = voxels(cells_every=10)
    for step, value in ((5000, -20.0), (5001, 5.0), (5009, 5.0), (5010, 5.0)):
        with torch.no_grad():
            scene.field.values.fill_(value)
        scene.prepare(Step(step, 10000), Generator().manual_seed(0))
        assert bool((scene.occupancy.densities > 1).all()) == (step == 5010)


def test_a_full_cell_keeps_its_neighbours():
    occupancy = voxels().occupancy
    occupancy.densities.zero_()
    occupancy.densities[5, 6, 7] = 1.0
    cells = occupancy.occupied(0.5).nonzero()
    assert len(cells) == 27
    assert cells.float().mean(0).tolist() == [5.0, 6.0, 7.0]


def test_the_size_of_the_world_changes_no_picture():
    small, large = (voxels(half_extent=h).eval() for h in (0.5, 1.0))
    near = around(2)
    pose = near.camera_to_world.clone()
    pose[:, :3, 3] /= 2
    near = replace(near, camera_to_world=pose)
    torch.testing.assert_close(small(near).images, large(around(2)).images, rtol=1e-4, atol=1e-5)


def test_density_moves_the_picture_through_the_background_too():
    """Central differences of the whole picture, for the raw density of some nodes."""
    scene = voxels(background={"colour": (0.9, 0.1, 0.4)}).eval()
    cameras, grid = around(1), scene.field.values
    weights = torch.linspace(-1, 1, 3).view(1, 3, 1, 1)

    def total():
        return (weights * scene(cameras).images).sum()

    total().backward()
    for node in ((8, 8, 12), (8, 4, 8), (10, 9, 4)):
        ends = []
        for shift in (0.02, -0.04):
            with torch.no_grad():
                grid[(0, 0, *node)] += shift
                ends.append(total().item())
        with torch.no_grad():
            grid[(0, 0, *node)] += 0.02
        slope = (ends[0] - ends[1]) / 0.04
        assert grid.grad[(0, 0, *node)].item() == pytest.approx(slope, rel=0.02, abs=2e-4)
