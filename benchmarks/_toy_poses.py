"""Who names the pose of a toy's noised views."""

import torch
from _toys import four_sides
from torch import Generator

from sd_core.encoders.features import FeatureExtractor
from sd_core.noising import Noised
from sd_core.prior import AbstractPrior
from sd_core.priors.bank import bank_log_likelihood
from sd_core.shapes import Latents
from sd_guidance_usd.matching import MatchingClassifier, MatchingOptions, Templates
from sd_guidance_usd.noised_templates import NoisedTemplates
from sd_guidance_usd.rectifier import LogProbabilities
from sd_toybox.model.folders import CLIP, shipped_folder
from sd_toybox.world.pictures import world_pictures
from sd_toybox.world.poses import POSES, pose_indices
from sd_toybox.world.samples import sample_world_cameras

BANK = 2000
# How often the world's pictures show each of POSES.
SEEN = torch.tensor([0.75, 0.1, 0.05, 0.1])


def true_templates(kind: str, colour: str) -> Templates:
    return Templates(POSES, four_sides(kind, colour))


def matching(kind: str, colour: str, prior: AbstractPrior) -> MatchingClassifier:
    """With true templates, and what suits the toybox's features."""
    return MatchingClassifier(
        true_templates(kind, colour),
        extractor=FeatureExtractor(str(shipped_folder() / CLIP), device=prior.device),
        options=MatchingOptions(augmentations=0, patch_temperature=0.2),
        generator=Generator().manual_seed(1),
    )


def noised_templates(kind: str, colour: str, prior: AbstractPrior) -> NoisedTemplates:
    return NoisedTemplates(true_templates(kind, colour), prior)


class ToyBank:
    """The latents of `BANK` pictures of a toy, from where the world's photographers stand."""

    def __init__(self, kind: str, colour: str, prior: AbstractPrior, generator: Generator) -> None:
        cameras = sample_world_cameras(BANK, generator)
        parts = [cameras.select(some) for some in torch.arange(BANK).split(100)]
        encoded = [prior.encode(world_pictures(kind, colour, part)) for part in parts]
        self.latents: Latents = torch.cat(encoded)
        self.pose = pose_indices(cameras.azimuth)
        self.schedule = prior.schedule

    def log_members(self, noised: Noised) -> LogProbabilities:
        """log p(k|x_t) of each member k."""
        alpha = self.schedule.alpha(noised.t, noised.noisy)
        sigma = self.schedule.sigma(noised.t, noised.noisy)
        found = bank_log_likelihood(noised.noisy, self.latents, alpha, sigma)
        return found.log_softmax(dim=1)

    def log_poses(self, noised: Noised) -> LogProbabilities:
        """log p(c|x_t), exactly."""
        members = self.log_members(noised)
        each = range(len(POSES))
        return torch.stack([members[:, self.pose == c].logsumexp(dim=1) for c in each], dim=1)
