"""Pictures from the model: DDIM with classifier-free guidance, many at a time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from safetensors.torch import save as tensors_to_bytes
from torch import Generator

from sd_core.atomic import write_bytes
from sd_core.noising import NoiseSchedule
from sd_core.prior import AbstractPrior
from sd_core.shapes import Images, Latents
from sd_core.text_guidance import classifier_free_guidance
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
            latents = ddim(self.prior, noise, prompts, scale=scale, steps=self.steps)
            images = self.prior.decode(latents).clamp(0, 1)
        return (images * 255).round().byte()


def ddim(
    prior: AbstractPrior, noise: Latents, prompts: Sequence[str], *, scale: float, steps: int
) -> Latents:
    """x0 from noise: x_s = α_s·x̂0 + σ_s·ε̂, x̂0 = (x_t - σ_t·ε̂)/α_t (Song et al. 2021, η = 0).

    Times are equally spaced as in Stable Diffusion ("leading", offset 1); the last s is 0. At
    scale 1 the empty text is not asked.
    """
    schedule = prior.schedule
    text = prior.encode_text(prompts)
    nothing = prior.encode_text([""] * len(prompts))
    latents = noise
    times = sampling_times(schedule, steps)
    for t, s in zip(times, [*times[1:], 0], strict=True):
        now = torch.full((len(prompts),), t)
        if scale == 1.0:
            guided = prior.predict_noise(latents, now, text)
        else:
            plain, told = prior.predict_noises(latents, now, [nothing, text])
            guided = classifier_free_guidance(plain, told, scale)
        clean = (latents - float(schedule.sigmas[t]) * guided) / float(schedule.alphas[t])
        latents = float(schedule.alphas[s]) * clean + float(schedule.sigmas[s]) * guided
    return latents


def sampling_times(schedule: NoiseSchedule, steps: int) -> list[int]:
    """t = k·(T // steps) + 1 for k = steps - 1 .. 0."""
    stride = len(schedule) // steps
    return [k * stride + 1 for k in reversed(range(steps))]
