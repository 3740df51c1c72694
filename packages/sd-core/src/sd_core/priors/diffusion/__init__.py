"""Priors that are trained networks, through diffusers: the extra `sd-core[diffusers]`.

Begin at `stable_diffusion.py` (options, loading), then `diffusion_prior.py` (the prior) and
`lora.py` (its estimator). A new family of models is one file: `family.py` says how.
"""
