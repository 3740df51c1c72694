"""What is left of the pose in a noised picture, and what a classifier sees of it at x̂0.

    python benchmarks/pose_of_noised.py

USD takes p(c|x̂0) for p(c|x_t). True views of a toy are noised; x̂0 is the toybox prior's own guess,
without guidance. Beside it what templates noised alike say, and the exact x̂0 and p(c|x_t) of a bank
of 2,000 latents of the same toy, taken from where the world's photographers stand. Three minutes.
"""

from math import pi

import torch
from _report import machine, write_section
from _toy_poses import BANK, SEEN, ToyBank, matching, noised_templates
from _toys import cameras_at
from jaxtyping import Float
from torch import Generator, Tensor

from sd_core.noising import Noised, draw
from sd_core.parameterisation import clean_from_noise
from sd_core.prior import AbstractPrior, PriorContext
from sd_core.shapes import Images
from sd_core.tables import markdown
from sd_guidance_usd.rectifier import Probabilities, Shares, with_shares
from sd_toybox.model.clip_reader import ClipReader
from sd_toybox.model.folders import CLIP, shipped_folder
from sd_toybox.model.pose_head import grid_azimuths
from sd_toybox.model.toybox_prior import ToyboxOptions, build
from sd_toybox.world.pictures import world_pictures
from sd_toybox.world.poses import POSES, pose_indices

TOYS = (("bear", "red"), ("robot", "purple"), ("mug", "green"))
TIMES = (100, 300, 500, 600, 700, 800, 900)
VIEWS = 24


class Judges:
    """Of one toy: matching and noised with true templates, the toybox's pose head, the truth."""

    def __init__(self, kind: str, colour: str, prior: AbstractPrior, generator: Generator) -> None:
        self.prior = prior
        self.matching = matching(kind, colour, prior)
        self.templates = noised_templates(kind, colour, prior)
        self.reader = ClipReader(shipped_folder() / CLIP, prior.device)
        self.bank = ToyBank(kind, colour, prior, generator)

    def see(self, noised: Noised, clean: Images) -> dict[str, Probabilities]:
        members = self.bank.log_members(noised).exp()
        mean = torch.einsum("vm,mchw->vchw", members, self.bank.latents)
        text = self.prior.encode_text([""] * len(noised))
        nearest = self.templates.log_of_noisy(noised.noisy, noised.t, text)
        return {
            "matching at x̂0": self.matching.log_probabilities(clean).exp(),
            "pose head at x̂0": self._head(clean),
            "noised templates": with_shares(nearest, SEEN.expand_as(nearest)).exp(),
            "pose head at the exact x̂0": self._head(self.prior.decode(mean).clamp(0, 1)),
            "exact p(c|x_t)": self.bank.log_poses(noised).exp(),
        }

    def counted(self) -> tuple[Shares, Shares]:
        """How often the bank's own pictures show each pose, and what the nearest template says."""
        latents, least = self.bank.latents, torch.zeros(BANK, dtype=torch.long)
        noised = draw(self.prior.schedule, latents, least, Generator().manual_seed(1))
        text = self.prior.encode_text([""] * BANK)
        found = self.templates.log_of_noisy(noised.noisy, noised.t, text).exp().mean(dim=0)
        return torch.bincount(self.bank.pose, minlength=len(POSES)) / BANK, found

    def _head(self, pictures: Images) -> Probabilities:
        found = self.reader.read(pictures).azimuth_logits.softmax(dim=1)
        pose = pose_indices(grid_azimuths(found.shape[1]))
        return torch.stack([found[:, pose == each].sum(dim=1) for each in range(4)], dim=1)


@torch.no_grad()
def main() -> None:
    torch.set_num_threads(1)
    prior = build(ToyboxOptions(), PriorContext(torch.device("cpu")))
    generator = Generator().manual_seed(0)
    azimuth = 2 * pi * (torch.arange(VIEWS) + 0.5) / VIEWS
    label = pose_indices(azimuth)
    seen: dict[int, dict[str, list[Probabilities]]] = {t: {} for t in TIMES}
    counted = []
    for kind, colour in TOYS:
        judges = Judges(kind, colour, prior, generator)
        counted.append(torch.stack(judges.counted()))
        latents = prior.encode(
            world_pictures(kind, colour, cameras_at(azimuth)), generator=generator
        )
        text = prior.encode_text([f"a {colour} {kind}"] * VIEWS)
        for t in TIMES:
            noised = draw(prior.schedule, latents, torch.full((VIEWS,), t), generator)
            noise = prior.predict_noise(noised.noisy, noised.t, text)
            alpha = prior.schedule.alpha(noised.t, latents)
            sigma = prior.schedule.sigma(noised.t, latents)
            clean = clean_from_noise(noised.noisy, noise, alpha=alpha, sigma=sigma)
            for name, found in judges.see(noised, prior.decode(clean).clamp(0, 1)).items():
                seen[t].setdefault(name, []).append(found)
    write_section("pose-of-noised", _section(seen, label.repeat(len(TOYS)), torch.stack(counted)))


def _section(
    seen: dict[int, dict[str, list[Probabilities]]],
    label: Tensor,
    counted: Float[Tensor, "toys 2 poses"],
) -> str:
    true, nearest = (
        ", ".join(f"{share:.2f}" for share in shares) for shares in counted.mean(dim=0).tolist()
    )
    names = list(seen[TIMES[0]])
    rows = []
    for t in TIMES:
        row = [str(t)]
        for name in names:
            found = torch.cat(seen[t][name])
            away = label != POSES.index("front")
            right = (found.argmax(dim=1) == label)[away].float().mean()
            row.append(f"{float(right):.2f} ({float(found[away, 0].mean()):.2f})")
        rows.append(row)
    return "\n".join(
        [
            "## What noise leaves of the pose",
            "",
            markdown(["t", *names], rows),
            "",
            f"Of {3 * VIEWS // 4} views each of {len(TOYS)} toys that do not show the front: the "
            "share whose pose is named, and in brackets the mean probability of the front. x̂0 is "
            "the toybox prior's, without guidance. Noised templates: one true picture of each "
            "side, with the world's shares. Exact: over the latents of "
            f"{BANK} pictures of the same toy, from where the world's photographers stand.",
            "",
            "How often the banks' own pictures show each pose (front, right, back, left; mean over "
            f"the toys): {true}. As the nearest template has it, with the least noise: {nearest}.",
            "",
            f"{machine('sd-guidance-usd', 'sd-toybox', 'torch')}; made by "
            "benchmarks/pose_of_noised.py.",
        ]
    )


if __name__ == "__main__":
    main()
