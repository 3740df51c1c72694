"""Pictures from the model: DDIM with classifier-free guidance, many at a time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from safetensors.torch import save as tensors_to_bytes
from torch import Generator

from sd_core.atomic import write_bytes
from sd_core.prior import AbstractPrior
from sd_core.sampling import ddim_sample
from sd_core.shapes import Images
from sd_toybox.train.plan import SAMPLING_BATCH, seed_for
from sd_toybox.train.progress import Progress
from sd_toybox.world.samples import Pictures


@dataclass(frozen=True)
class Sampler:
    """Samples of a prior; each batch has a seed of its own and is kept in `folder`."""

    prior: AbstractPrior
    folder: Path
    seed: int
    steps: int
    write: Callable[[str], None]

    def pictures(self, name: str, prompts: Sequence[str], *, scale: float) -> Images:
        """One picture in [0, 1] for each prompt; the n-th starts from the same noise every time."""
        batches = range(0, len(prompts), SAMPLING_BATCH)
        progress = Progress(name, len(batches), self.write)
        found = []
        for place, start in enumerate(batches):
            some = prompts[start : start + SAMPLING_BATCH]
            asked = [str(scale), str(self.steps), *some]
            digest = seed_for(self.seed, *self.prior.identity().values(), *asked)
            path = self.folder / f"{name}_{digest:016x}.safetensors"
            if not path.is_file():
                generator = Generator().manual_seed(seed_for(self.seed, "samples", place))
                drawn = {"pictures": self._drawn(some, generator, scale)}
                self.folder.mkdir(parents=True, exist_ok=True)
                write_bytes(path, tensors_to_bytes(drawn))
            progress.at(place + 1)
            found.append(load_file(path)["pictures"].float() / 255)
        return torch.cat(found)

    def _drawn(self, prompts: Sequence[str], generator: Generator, scale: float) -> Pictures:
        noise = torch.randn(len(prompts), *self.prior.latent_shape, generator=generator)
        with torch.no_grad():
            latents = ddim_sample(self.prior, noise, prompts, scale=scale, steps=self.steps)
            images = self.prior.decode(latents).clamp(0, 1)
        return (images * 255).round().byte()
