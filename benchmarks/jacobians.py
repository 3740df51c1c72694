"""What USD's slope loses when the network, or the decoder too, is not differentiated.

    python benchmarks/jacobians.py

True views of the toybox's toys are noised; ∇ log r is taken in the three ways of `jacobian`, with
the matching classifier; beside them by templates that are noised alike, and exactly, over a bank of
2,000 latents of the same toy. What each way costs is in guidance_cost.py. Some minutes.
"""

import statistics
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from math import pi
from typing import get_args

import torch
from _report import machine, write_section
from _toy_poses import BANK, SEEN, ToyBank, matching, noised_templates
from _toys import cameras_at
from jaxtyping import Float
from torch import Generator, Tensor
from torch.nn.functional import cosine_similarity

from sd_core.condition import Texts
from sd_core.noising import Noised, draw
from sd_core.prior import AbstractPrior, PriorContext
from sd_core.shapes import Latents
from sd_core.tables import markdown
from sd_guidance_usd.pose_judge import Jacobian, LikelihoodJudge, PictureJudge
from sd_guidance_usd.rectifier import LogProbabilities, log_rectifier, with_shares
from sd_toybox.model.toybox_prior import ToyboxOptions, build
from sd_toybox.world.pictures import world_pictures

TOYS = (("bear", "red"), ("robot", "purple"), ("mug", "green"))
TIMES = (100, 300, 500, 600, 700, 800)
JUDGED = {"text": 1.0, "guided": 7.5}  # whose x̂0, and its guidance
VIEWS = 24
WAYS: tuple[Jacobian, ...] = get_args(Jacobian)
EXACT, NOISED = "exact", "noised"
FLAT = 1e-4  # of a slope: where the pose is certain, log r is constant

Slopes = dict[str, Float[Tensor, "views numbers"]]


def log_r(seen: LogProbabilities) -> Float[Tensor, " views"]:
    return log_rectifier(seen, SEEN.expand_as(seen), torch.full((4,), 0.25))


class Toy:
    """A toy's views, its classifier, and the latents of its world."""

    def __init__(self, kind: str, colour: str, prior: AbstractPrior, generator: Generator) -> None:
        self.prior, self.text = prior, f"a {colour} {kind}"
        azimuth = 2 * pi * (torch.arange(VIEWS) + 0.5) / VIEWS
        self.views = prior.encode(world_pictures(kind, colour, cameras_at(azimuth)))
        self.classifier = matching(kind, colour, prior)
        self.templates = noised_templates(kind, colour, prior)
        self.bank = ToyBank(kind, colour, prior, generator)

    def slopes(self, t: int, scale: float, generator: Generator) -> Slopes:
        """∇_{x_t} log r in each way, for the same noised views."""
        noised = draw(self.prior.schedule, self.views, torch.full((VIEWS,), t), generator)
        found: dict[str, Latents] = {way: self._judged(noised, scale, way) for way in WAYS}
        found |= {NOISED: self._nearest(noised), EXACT: self._exact(noised)}
        return {name: each.flatten(1) for name, each in found.items()}

    def _judged(self, noised: Noised, scale: float, way: Jacobian) -> Latents:
        texts = Texts(*(self.prior.encode_text([each] * VIEWS) for each in (self.text, "")))
        with torch.set_grad_enabled(way == "full"):
            noised.noisy.requires_grad_(way == "full")
            noise = self.prior.predict_guided(noised.noisy, noised.t, texts, scale=scale)
        judge = PictureJudge(self.classifier, self.prior, way)
        return judge.slope(noised, noise, log_r)[1]

    def _nearest(self, noised: Noised) -> Latents:
        """By templates that are noised alike, which ask no network and so are alike under any
        guidance."""
        judge = LikelihoodJudge(self.templates, self.prior, self.text)
        counted = partial(with_shares, shares=SEEN.expand(VIEWS, -1))
        return judge.slope(noised, noised.noise, lambda seen: log_r(counted(seen)))[1]

    def _exact(self, noised: Noised) -> Latents:
        noisy = noised.noisy.detach().requires_grad_()
        found = log_r(self.bank.log_poses(replace(noised, noisy=noisy)))
        (slope,) = torch.autograd.grad(found.sum(), noisy)
        return slope


def rows(toys: list[Toy], generator: Generator) -> Iterator[list[str]]:
    for judged, scale in JUDGED.items():
        for t in TIMES:
            each = [toy.slopes(t, scale, generator) for toy in toys]
            found = {name: torch.cat([one[name] for one in each]) for name in each[0]}
            row = [judged, str(t)]
            row += [f"{_alike(found[way], found['full'])}" for way in WAYS if way != "full"]
            row += [f"{_alike(found[way], found[EXACT])}" for way in (*WAYS, NOISED)]
            yield row


def _alike(one: Tensor, other: Tensor) -> str:
    """Cosine, and length of the one over that of the other: medians over the views."""
    if float(other.norm(dim=1).median()) < FLAT:
        return "–"
    cosine = cosine_similarity(one, other, dim=1).tolist()
    ratio = (one.norm(dim=1) / other.norm(dim=1)).tolist()
    return f"{statistics.median(cosine):.2f} ({statistics.median(ratio):.2g} ×)"


def main() -> None:
    torch.set_num_threads(1)
    prior, generator = build(ToyboxOptions(), PriorContext(torch.device("cpu"))), Generator()
    generator.manual_seed(0)
    toys = [Toy(*toy, prior, generator) for toy in TOYS]
    header = ["judged", "t", "vae to full", "none to full"]
    header += [f"{way} to {EXACT}" for way in (*WAYS, NOISED)]
    write_section(
        "jacobians",
        f"""## What USD's slope loses

{markdown(header, list(rows(toys, generator)))}

Cosine of ∇ log r with the one it is compared with, and its length beside that one's: medians over
{VIEWS} views each of {len(TOYS)} toys, by the matching classifier at x̂0, and exactly over the
latents of {BANK} pictures of the same toy; "–" where that is flat, as the pose is certain. p̄ is how
often the world shows each pose. Judged: at x̂0 of the text alone, or under guidance of
{JUDGED["guided"]:g}. Noised: by one true template of each side, noised as x_t is, with the world's
shares; it asks no network, so that its two blocks differ in the noise alone. What `full`, `vae` and
`none` cost is in "A step with each method".
{machine("sd-guidance-usd", "sd-toybox", "torch")}; made by `nox -s benchmarks -- jacobians`.
""",
    )


if __name__ == "__main__":
    main()
