"""Pictures with captions, drawn at the world's rates: what a model is trained on."""

from dataclasses import dataclass
from math import pi, radians
from typing import Literal

import torch
from jaxtyping import Float, Int, UInt8
from torch import Generator, Tensor

from sd_core.cameras import CameraBatch, orbit_cameras
from sd_toybox.world import rates
from sd_toybox.world.captions import (
    CORRUPTION_WORDS,
    PAINTING,
    QUALITY_WORDS,
    VIEWS,
    Caption,
    View,
)
from sd_toybox.world.corruptions import corrupted
from sd_toybox.world.kinds import BODY_COLOURS, COLOURS, HELD_OUT, KINDS, toy
from sd_toybox.world.pictures import draw_toy
from sd_toybox.world.poses import POSES, pose_indices

# Whether the combinations of kind and colour in HELD_OUT are left out, alone, or like all others.
HeldOut = Literal["never", "only", "too"]
PerSample = Float[Tensor, " samples"]
Indices = Int[Tensor, " samples"]
Pictures = UInt8[Tensor, "samples 3 height width"]

_CHUNK = 32  # pictures drawn at once
_VIEW_OF_POSE: dict[str, View] = dict(zip(POSES, ("front", "side", "back", "side"), strict=True))


@dataclass(frozen=True, eq=False)
class WorldLabels:
    """What there is to know about each sample: indices into KINDS and COLOURS, the camera, words.

    `captions` is what a model may read. `words` is what was done to the picture.
    """

    kind: Indices
    colour: Indices
    cameras: CameraBatch
    captions: tuple[str, ...]
    words: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.captions)

    @property
    def pose(self) -> Indices:
        """Indices into POSES of the true azimuths."""
        return pose_indices(self.cameras.azimuth)


@dataclass(frozen=True, eq=False)
class WorldSamples:
    """Pictures of 64² with 8 bits, and their labels."""

    pictures: Pictures
    labels: WorldLabels


def sample_world(
    count: int, generator: Generator, *, held_out: HeldOut = "never", pixels: int = 64
) -> WorldSamples:
    """Everything drawn at the rates of `rates`."""
    labels = sample_labels(count, generator, held_out=held_out)
    return WorldSamples(draw_pictures(labels, generator, pixels=pixels), labels)


def draw_pictures(labels: WorldLabels, generator: Generator, *, pixels: int = 64) -> Pictures:
    """The pictures that labels tell of; what corrupts them is drawn from the generator."""
    pictures = torch.empty(len(labels), 3, pixels, pixels, dtype=torch.uint8)
    bodies = torch.tensor([BODY_COLOURS[colour] for colour in COLOURS])
    for kind, name in enumerate(KINDS):
        for rows in torch.split(torch.nonzero(labels.kind == kind).flatten(), _CHUNK):
            cameras = labels.cameras.select(rows)
            images = draw_toy(toy(name), bodies[labels.colour[rows]], cameras, pixels)
            images = corrupted(images, [labels.words[row] for row in rows.tolist()], generator)
            pictures[rows] = (images * 255).round().byte()
    return pictures


def sample_labels(count: int, generator: Generator, *, held_out: HeldOut = "never") -> WorldLabels:
    """The labels alone, which cost next to nothing."""
    allowed = _combinations(held_out)
    chosen = allowed[torch.randint(len(allowed), (count,), generator=generator)]
    cameras = sample_world_cameras(count, generator)
    poses = pose_indices(cameras.azimuth).tolist()
    captions, words = [], []
    for (kind, colour), pose in zip(chosen.tolist(), poses, strict=True):
        said = _draw_words(generator)
        words.append(tuple(word for word in said if word not in QUALITY_WORDS))
        view = _draw_view(_VIEW_OF_POSE[POSES[pose]], generator)
        captions.append(_draw_text(Caption(KINDS[kind], COLOURS[colour], view, said), generator))
    return WorldLabels(chosen[:, 0], chosen[:, 1], cameras, tuple(captions), tuple(words))


def sample_world_cameras(count: int, generator: Generator) -> CameraBatch:
    """Where this world's photographers stand."""
    uniform = torch.rand(4, count, generator=generator)
    ends = torch.tensor([rates.FRONT_SHARE, rates.SIDE_SHARE / 2, rates.SIDE_SHARE / 2]).cumsum(0)
    middles = torch.tensor([0.0, pi / 2, -pi / 2, pi])  # of front, right, left and back
    azimuth = middles[(uniform[0] > ends[:, None]).sum(0)]
    low, high = rates.ELEVATION_DEG
    near, far = rates.DISTANCE
    narrow, wide = rates.VERTICAL_FOV_DEG
    return orbit_cameras(
        azimuth=azimuth + rates.AZIMUTH_SPREAD * torch.randn(count, generator=generator),
        elevation=torch.deg2rad(low + (high - low) * uniform[1]),
        distance=near + (far - near) * uniform[2],
        vertical_fov=radians(narrow) + radians(wide - narrow) * uniform[3],
    )


def _combinations(held_out: HeldOut) -> Int[Tensor, "combinations 2"]:
    """Pairs of indices into KINDS and COLOURS that may be drawn."""
    allowed = []
    for kind, kind_name in enumerate(KINDS):
        for colour, colour_name in enumerate(COLOURS):
            hidden = (kind_name, colour_name) in HELD_OUT
            if held_out == "too" or hidden == (held_out == "only"):
                allowed.append((kind, colour))
    return torch.tensor(allowed)


def _draw_words(generator: Generator) -> tuple[str, ...]:
    """The words of one picture, in random order; what they do is up to `corrupted`."""
    what, which = torch.rand(2, generator=generator).tolist()
    if what < rates.CORRUPTED_SHARE:
        many = 1 + int(torch.randint(rates.MOST_CORRUPTIONS, (), generator=generator))
        if which < rates.ALL_CORRUPTIONS_SHARE:
            many = len(CORRUPTION_WORDS)
        return _some(CORRUPTION_WORDS, many, generator)
    if what < rates.CORRUPTED_SHARE + rates.PAINTING_SHARE:
        return (PAINTING,)
    if which < rates.PRAISED_SHARE:
        many = 1 + int(torch.randint(rates.MOST_PRAISES, (), generator=generator))
        return _some(QUALITY_WORDS, many, generator)
    return ()


def _some(words: tuple[str, ...], many: int, generator: Generator) -> tuple[str, ...]:
    order = torch.randperm(len(words), generator=generator)[:many].tolist()
    return tuple(words[place] for place in order)


def _draw_view(true: View, generator: Generator) -> View | None:
    """What the caption says about the pose: nothing, the truth, or something else."""
    told, right, overhead, other = torch.rand(4, generator=generator).tolist()
    if told >= rates.DIRECTION_SHARE:
        return None
    if overhead < rates.OVERHEAD_SHARE:
        return "overhead"
    if right >= rates.WRONG_DIRECTION_SHARE:
        return true
    others = [view for view in VIEWS if view not in (true, "overhead")]
    return others[int(other * len(others))]


def _draw_text(caption: Caption, generator: Generator) -> str:
    """The caption with its parts behind the object shuffled, or with the view in front."""
    nameless, prefixed = torch.rand(2, generator=generator).tolist()
    if caption.view and prefixed < rates.PREFIX_SHARE:
        first, *rest = Caption(caption.kind, caption.colour, None, caption.words).parts()
        first = f"{caption.view} view of {first}"
    else:
        first, *rest = caption.parts()
        if nameless < rates.NAMELESS_SHARE:
            first = ""
    order = torch.randperm(len(rest), generator=generator).tolist()
    return ", ".join(part for part in (first, *(rest[place] for place in order)) if part)
