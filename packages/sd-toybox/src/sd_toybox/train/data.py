"""The pictures: drawn once, in pieces that are kept on the disk, with labels drawn anew each time.

| part       | what                                                              | for            |
|------------|-------------------------------------------------------------------|----------------|
| world      | at the world's rates, without the held-out combinations           | vae, diffusion |
| test       | the same with all combinations                                    | measurements   |
| judge      | from all around evenly, all combinations                          | clip           |
| judge-test | the same                                                          | measurements   |

A piece has a seed of its own, so it is the same whenever it is drawn.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import tau
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file
from safetensors.torch import save as tensors_to_bytes
from torch import Generator, Tensor

from sd_core.atomic import write_bytes
from sd_core.cameras import CameraBatch, orbit_cameras
from sd_toybox.train.plan import Plan, seed_for
from sd_toybox.train.progress import Progress
from sd_toybox.world.samples import (
    WorldLabels,
    WorldSamples,
    draw_pictures,
    sample_labels,
)

Part = Literal["world", "test", "judge", "judge-test"]

PIECE = 500  # pictures: five seconds of work


@dataclass(frozen=True)
class Store:
    """Where the pictures are kept, for which plan and seed, and who is told how far it got."""

    folder: Path
    plan: Plan
    seed: int
    write: Callable[[str], None]

    def samples(self, part: Part) -> WorldSamples:
        """All of a part; what is not on the disk yet is drawn."""
        count = self._count(part)
        sizes = [min(PIECE, count - start) for start in range(0, count, PIECE)]
        progress = Progress(part, len(sizes), self.write)
        pictures, labels = [], []
        for place, size in enumerate(sizes):
            generator = Generator().manual_seed(seed_for(self.seed, "pictures", part, place))
            labels.append(draw_labels(part, size, generator))
            path = self.folder / f"{part}_{place:03d}.safetensors"
            if not path.is_file():
                drawn = draw_pictures(labels[-1], generator)
                self.folder.mkdir(parents=True, exist_ok=True)
                write_bytes(path, tensors_to_bytes({"pictures": drawn}))
                progress.at(place + 1)
            pictures.append(load_file(path)["pictures"])
        return WorldSamples(torch.cat(pictures), joined(labels))

    def _count(self, part: Part) -> int:
        counts: dict[Part, int] = {
            "world": self.plan.world_pictures,
            "test": self.plan.test_pictures,
            "judge": self.plan.judge_pictures,
            "judge-test": self.plan.judge_test_pictures,
        }
        return counts[part]


def draw_labels(part: Part, count: int, generator: Generator) -> WorldLabels:
    """What is on the pictures of a part."""
    labels = sample_labels(count, generator, held_out="never" if part == "world" else "too")
    if part in ("world", "test"):
        return labels
    azimuth = tau * torch.rand(count, generator=generator)
    return replace(labels, cameras=_turned(labels.cameras, azimuth))


def joined(labels: list[WorldLabels]) -> WorldLabels:
    """All labels, one piece after the other."""
    return WorldLabels(
        kind=torch.cat([each.kind for each in labels]),
        colour=torch.cat([each.colour for each in labels]),
        cameras=CameraBatch.concatenate([each.cameras for each in labels]),
        captions=tuple(caption for each in labels for caption in each.captions),
        words=tuple(words for each in labels for words in each.words),
    )


def _turned(cameras: CameraBatch, azimuth: Tensor) -> CameraBatch:
    return orbit_cameras(
        azimuth=azimuth,
        elevation=cameras.elevation,
        distance=cameras.distance,
        vertical_fov=cameras.vertical_fov,
    )
