"""The shapes that the packages hand to each other, each named once.

A function that takes or gives a tensor names one of these in its signature. They are checked in
tests only (jaxtyping's import hook, see `pyproject.toml`); at run time they cost nothing.
"""

from jaxtyping import Float, Int
from torch import Tensor

# Rendered pictures in [0, 1]; a scene that lives in latent space renders its latents directly.
Images = Float[Tensor, "batch channels height width"]
# What the prior diffuses: VAE latents, or pictures themselves for a prior without an encoder. Its
# axes have names of their own, so that one function may take both.
Latents = Float[Tensor, "batch latent_channels latent_height latent_width"]
# Where pictures show something, on any grid: higher where they do.
Saliency = Float[Tensor, "batch rows columns"]
# One number for each sample, such as a weight or a scale.
PerSample = Float[Tensor, "batch"]
# Diffusion times as indices into the noise schedule: 0 is almost clean, len(schedule) - 1 noise.
Timesteps = Int[Tensor, "batch"]
