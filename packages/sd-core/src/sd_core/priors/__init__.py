"""The built-in priors: small distributions whose score is known exactly, and Stable Diffusion."""

from sd_core.entries import PriorEntry
from sd_core.hookspecs import hookimpl


@hookimpl
def sd_priors() -> list[PriorEntry]:
    return [
        PriorEntry(
            name="gaussian-mixture",
            summary="A Gaussian mixture over tensors: exact noise, samples and log-density",
            reference="this project",
            config="sd_core.priors.gaussian_mixture:GaussianMixtureOptions",
            build="sd_core.priors.gaussian_mixture:build",
            stages="sd_core.priors.gaussian_mixture:STAGES",
        ),
        PriorEntry(
            name="image-bank",
            summary="A folder of captioned pictures: the exact denoiser of a finite set",
            reference="this project",
            config="sd_core.priors.image_bank:ImageBankOptions",
            build="sd_core.priors.image_bank:build",
        ),
        PriorEntry(
            name="stable-diffusion",
            summary="Stable Diffusion 1, 2 and XL, from the hub or a folder (extra: diffusers)",
            reference="Rombach et al. 2022, arXiv:2112.10752; Podell et al. 2023, arXiv:2307.01952",
            config="sd_core.priors.diffusion.stable_diffusion:StableDiffusionOptions",
            build="sd_core.priors.diffusion.stable_diffusion:build",
        ),
    ]
