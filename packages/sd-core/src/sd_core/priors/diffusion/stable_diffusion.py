"""The Stable Diffusion prior: any diffusers text-to-image model whose family is known.

Options and `build` stand here, free of diffusers; `diffusion_prior.py` is the prior itself.
"""

from typing import Any, Literal

import torch
from torch import nn

from sd_core.config import Options, option
from sd_core.errors import ConfigError
from sd_core.prior import PriorContext
from sd_core.priors.diffusion.diffusion_prior import PriorParts, StableDiffusionPrior
from sd_core.priors.diffusion.family import Family, TextSettings, family_of
from sd_core.priors.diffusion.latent_codec import (
    LatentCodec,
    Posterior,
    downscaling_of,
    latent_shape_of,
)
from sd_core.priors.diffusion.lora import BASE_MODEL, LoraOptions
from sd_core.priors.diffusion.model_files import FileOptions, ModelFiles, open_model
from sd_core.priors.diffusion.model_ids import find_model
from sd_core.priors.diffusion.scheduler_config import prediction_of, schedule_of
from sd_core.priors.diffusion.text_cache import TextCache
from sd_core.priors.diffusion.text_windows import LongPrompts

Precision = Literal["auto", "fp16", "bf16", "fp32"]
_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}


class StableDiffusionOptions(Options):
    """Which model, and how it is run."""

    model: str = option(
        "sd21-base",
        "sd15, sd21-base, sd21, sdxl, an id of the hub, or a folder. The environment variable "
        "SD_CORE_MODEL_<NAME>, such as SD_CORE_MODEL_SD21_BASE, puts another copy in its place.",
        min_length=1,
    )
    revision: str | None = option(None, "Commit, tag or branch of the model on the hub.")
    variant: str | None = option(None, "Which copy of the weights, such as fp16, where it has two.")
    dtype: Precision = option("auto", "Precision of the network: fp16 on CUDA, else fp32.")
    vae_dtype: Precision = option(
        "auto", "Precision of the VAE: fp32 where its own file asks for it (SDXL), else dtype."
    )
    encode: Posterior = option(
        "mean",
        "Latents of a picture: the mean of the VAE's posterior, or a sample of it, as the "
        "published codes draw.",
    )
    picture_size: int | None = option(
        None, "Height and width that pictures are resized to; by default the model's own.", gt=0
    )
    long_prompts: LongPrompts = option(
        "windows", "Prompts longer than the text encoder's window: read in several, or refused."
    )
    attention_slicing: bool = option(False, "Attention in slices: less memory, slower.")
    vae_slicing: bool = option(False, "One picture at a time through the VAE: less memory.")
    offload_text_encoder: bool = option(
        False, "Free the text encoder once prompts are encoded; a new prompt loads it again."
    )
    compile: bool = option(False, "torch.compile of the network: a slow start, then faster.")
    channels_last: bool = option(False, "Memory layout that convolutions prefer on a GPU.")
    gradient_checkpointing: bool = option(
        False, "Less memory, more time, for methods that differentiate through the network (USD)."
    )
    allow_pickle: bool = option(
        False, "Read pickled weights, which can run any code, where there are no others."
    )
    allow_remote_code: bool = option(False, "Run code that comes with the model.")
    estimator: LoraOptions = option(LoraOptions(), "The learner of the score of the renders.")


def build(config: StableDiffusionOptions, context: PriorContext) -> StableDiffusionPrior:
    """The entry's `build`."""
    prior = _assemble(config, context.device)
    _ = prior.codec  # now, so that a broken VAE is found before the first step
    return prior


def _assemble(
    config: StableDiffusionOptions, device: torch.device, *, told_by: str = "prior.model"
) -> StableDiffusionPrior:
    """The network is loaded here; the VAE and the text encoders when they are first asked for."""
    allowed = FileOptions(config.variant, config.allow_pickle, config.allow_remote_code)
    files = open_model(find_model(config.model, config.revision, option=told_by), allowed)
    family = family_of(files)
    scheduler = files.read_json("scheduler/scheduler_config.json")
    size = picture_size(config, files, family)
    dtype, vae_dtype = precisions(config, files, device)
    settings = TextSettings(dtype, device, config.long_prompts, size)

    def load_other(model: str) -> StableDiffusionPrior:
        # The same latents are shown to it, so the pictures have the same size.
        same = {"model": model, "revision": None, "variant": None, "picture_size": size[0]}
        return _assemble(config.model_copy(update=same), device, told_by=BASE_MODEL)

    parts = PriorParts(
        network=_network(config, files.load(family.network, dtype), device),
        family=family,
        schedule=schedule_of(scheduler),
        prediction_type=prediction_of(scheduler),
        latent_shape=latent_shape_of(files.read_json("vae/config.json"), size),
        text=TextCache(
            lambda: family.text_encoder(files, settings), offload=config.offload_text_encoder
        ),
        load_codec=lambda: _codec(config, files, files.load("vae", vae_dtype).to(device), size),
        sample_posterior=config.encode == "sample",
        estimator=config.estimator,
        load_other=load_other,
        names=_names(files, family, dtype, vae_dtype),
    )
    return StableDiffusionPrior(parts)


def _network(config: StableDiffusionOptions, network: Any, device: torch.device) -> nn.Module:
    # Any: these switches are diffusers', not torch's.
    if config.attention_slicing:
        network.set_attention_slice("auto")
    if config.gradient_checkpointing:
        network.enable_gradient_checkpointing()
    if config.channels_last:
        network.to(memory_format=torch.channels_last)
    network.to(device)
    if config.compile:
        network.compile()  # in place: the module stays the one that an estimator adapts
    module: nn.Module = network
    return module


def _codec(
    config: StableDiffusionOptions, files: ModelFiles, vae: Any, size: tuple[int, int]
) -> LatentCodec:
    if config.vae_slicing:
        vae.enable_slicing()
    if config.gradient_checkpointing:
        vae.enable_gradient_checkpointing()
    if config.channels_last:
        vae.to(memory_format=torch.channels_last)
    return LatentCodec(vae, files.read_json("vae/config.json"), picture_size=size)


def _dtype(precision: Precision, device: torch.device) -> torch.dtype:
    if precision == "auto":
        precision = "fp16" if device.type == "cuda" else "fp32"
    return _DTYPES[precision]


def precisions(
    config: StableDiffusionOptions, files: ModelFiles, device: torch.device
) -> tuple[torch.dtype, torch.dtype]:
    """What the network and the VAE compute in."""
    dtype = _dtype(config.dtype, device)
    if config.vae_dtype != "auto":
        return dtype, _dtype(config.vae_dtype, device)
    # The file, not the loaded configuration: there, diffusers has filled in true for every VAE.
    upcast = files.read_json("vae/config.json").get("force_upcast")
    return dtype, torch.float32 if upcast else dtype


def picture_size(
    config: StableDiffusionOptions, files: ModelFiles, family: Family
) -> tuple[int, int]:
    """Height and width: the option's, or what the network was trained on."""
    factor = downscaling_of(files.read_json("vae/config.json"))
    if config.picture_size is not None:
        if config.picture_size % factor:
            raise ConfigError(
                f"prior.picture_size is {config.picture_size}, but the VAE of "
                f"'{files.source.name}' shrinks pictures {factor} times. Give a multiple of it."
            )
        return config.picture_size, config.picture_size
    sample = files.read_json(f"{family.network}/config.json").get("sample_size")
    if sample is None:
        raise ConfigError(
            f"the model '{files.source.name}' does not say on which picture size it was trained. "
            "Set prior.picture_size."
        )
    height, width = (sample, sample) if isinstance(sample, int) else sample
    return height * factor, width * factor


def _names(
    files: ModelFiles, family: Family, dtype: torch.dtype, vae_dtype: torch.dtype
) -> dict[str, str]:
    names = {
        "model": files.source.name,
        "family": family.name,
        "dtype": str(dtype).removeprefix("torch."),
        "vae_dtype": str(vae_dtype).removeprefix("torch."),
    }
    return names if files.commit is None else {**names, "revision": files.commit}
