"""What the Janus meter says of objects whose faces are known, and of true views that are spoilt.

Rewrites the section of docs/toybox.md between its markers, and its picture. A minute or two.
"""

from collections.abc import Callable
from math import radians
from pathlib import Path
from statistics import mean

import torch
from _report import machine, write_section
from torch import Generator, Tensor
from torch.nn.functional import avg_pool2d, interpolate, pad

from sd_core.cameras import CameraBatch, orbit_cameras, turntable
from sd_core.metric import MetricContext
from sd_core.pictures import contact_sheet, save_png
from sd_core.shapes import Images
from sd_core.tables import markdown
from sd_toybox.meter.janus_faces import JanusFaces
from sd_toybox.meter.many_faced import many_faced
from sd_toybox.meter.orbit_metric import MeterOptions
from sd_toybox.meter.pose_consistency import PoseConsistency
from sd_toybox.meter.pose_judge import RenderPoseJudge, ToyName
from sd_toybox.world.kinds import COLOURS, KINDS, body_colour, toy
from sd_toybox.world.pictures import draw_toy, world_pictures
from sd_toybox.world.poses import pose_indices
from sd_toybox.world.toys import Toy

DOCUMENT = Path(__file__).parent.parent / "docs" / "toybox.md"
PICTURE = DOCUMENT.parent / "images" / "many_faced.png"
ELEVATIONS_DEG = (0.0, 10.0, 20.0)
VIEWS_EACH = 24  # random azimuths of each kind and colour
PICTURED = "bear", "red"

Views = Callable[[str, str, CameraBatch], Images]


def drawn(made: Callable[[str], Toy]) -> Views:
    """The views of a toy made of a kind."""

    def views(kind: str, colour: str, cameras: CameraBatch) -> Images:
        body = torch.tensor(body_colour(colour)).expand(len(cameras), 3)
        return draw_toy(made(kind), body, cameras, 64)

    return views


def all_front(kind: str, colour: str, cameras: CameraBatch) -> Images:
    """The front, wherever the camera stands: what SDS makes where its prior saw the front most."""
    one = cameras.select(torch.zeros(1, dtype=torch.long))
    return world_pictures(kind, colour, one).expand(len(cameras), -1, -1, -1)


OBJECTS: dict[str, Views] = {
    "true": drawn(toy),
    "two faces": drawn(lambda kind: many_faced(kind, 2)),
    "three faces": drawn(lambda kind: many_faced(kind, 3)),
    "the front from everywhere": all_front,
    "white": lambda kind, colour, cameras: torch.ones(len(cameras), 3, 64, 64),
}


def blurred(views: Images, times: int) -> Images:
    """A mean over 3² pixels, again and again: variance 2/3 of a pixel each."""
    for _ in range(times):
        views = avg_pool2d(pad(views, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    return views


def resized(views: Images, size: int) -> Images:
    """The object in another size, on white or cut to the frame."""
    other = interpolate(views, size, mode="bilinear", antialias=True)
    edge = (64 - size) // 2
    return pad(other, (edge, 64 - size - edge) * 2, value=1.0)


SPOILT: dict[str, Callable[[Images], Tensor]] = {
    "nothing": lambda views: views,
    "blur, 2 pixels": lambda views: blurred(views, 6),
    "saturation × 1.5": lambda views: (v := views.mean(1, keepdim=True)) + 1.5 * (views - v),
    "contrast × 0.6": lambda views: 1 + 0.6 * (views - 1),
    "moved by 2 pixels both ways": lambda views: views.roll((2, 2), (2, 3)),
    "10 % smaller": lambda views: resized(views, 58),
    "10 % larger": lambda views: resized(views, 70),
    "noise of 0.1": lambda views: (
        views + 0.1 * torch.randn(views.shape, generator=Generator().manual_seed(0))
    ),
}


def object_table() -> str:
    header = ["object", "number", "faces as made", "entropy", "consistency", "likeness"]
    rows = []
    for (name, views), made in zip(OBJECTS.items(), (1, 2, 3, 4, 0), strict=True):
        found = [
            measured(views, kind, colour, elevation)
            for kind in KINDS
            for colour in COLOURS
            for elevation in ELEVATIONS_DEG
        ]
        right = sum(each["janus-faces"] == made for each in found)
        columns = ("pose-entropy", "pose-consistency", "likeness")
        spreads = [_spread([each[column] for each in found]) for column in columns]
        rows.append([name, str(len(found)), f"{made} in {right}", *spreads])
    return markdown(header, rows)


def measured(views: Views, kind: str, colour: str, elevation_deg: float) -> dict[str, float]:
    """Both metrics of one object, seen from 24 sides."""
    cameras = turntable(24, elevation_deg=elevation_deg, distance=2.0)
    values: dict[str, float] = {}
    for metric in (JanusFaces, PoseConsistency):
        judge = metric(MeterOptions(), MetricContext(torch.device("cpu")))
        judge.update(views(kind, colour, cameras), f"a {colour} {kind}", cameras)
        values |= judge.compute()
    return values


def spoilt_table() -> str:
    """Shares of views whose pose class is named right."""
    generator = Generator().manual_seed(0)
    right: dict[str, list[float]] = {name: [] for name in SPOILT}
    for kind in KINDS:
        shares: dict[str, list[float]] = {name: [] for name in SPOILT}
        for colour in COLOURS:
            cameras = random_views(generator)
            true = world_pictures(kind, colour, cameras)
            for name, spoil in SPOILT.items():
                views = spoil(true).clamp(0, 1)
                poses = RenderPoseJudge().read(views, ToyName(kind, colour), cameras).poses
                agrees = poses == pose_indices(cameras.azimuth)
                shares[name].append(float(agrees.float().mean()))
        for name, each in shares.items():
            right[name].append(mean(each))
    rows = [
        [name, *(f"{100 * share:.0f} %" for share in [*each, mean(each)])]
        for name, each in right.items()
    ]
    return markdown(["true views with", *KINDS, "all"], rows)


def random_views(generator: Generator) -> CameraBatch:
    """From random azimuths at an elevation of 10°."""
    azimuth = radians(360.0) * torch.rand(VIEWS_EACH, generator=generator)
    return orbit_cameras(
        azimuth=azimuth,
        elevation=torch.full_like(azimuth, radians(10.0)),
        distance=torch.full_like(azimuth, 2.0),
        vertical_fov=torch.full_like(azimuth, radians(40.0)),
    )


def _spread(values: list[float]) -> str:
    return f"{mean(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def main() -> None:
    torch.set_num_threads(1)
    cameras = turntable(12, elevation_deg=10.0, distance=2.0)
    sheet = [OBJECTS[name](*PICTURED, cameras) for name in ("true", "two faces", "three faces")]
    save_png(PICTURE, contact_sheet(torch.cat(sheet), len(cameras)))
    lines = [
        object_table(),
        "",
        f"Every kind in every colour at elevations of {ELEVATIONS_DEG} degrees, 24 views each; "
        "mean (least to most).",
        "",
        spoilt_table(),
        "",
        f"Pose class named right, of {VIEWS_EACH} random azimuths of each colour. "
        f"{machine('sd-toybox', 'torch')}; made by `nox -s benchmarks -- janus_meter`.",
    ]
    write_section("meter", "\n".join(lines), DOCUMENT)


if __name__ == "__main__":
    main()
