"""The networks: how large they are, and how they begin.

| part         | class                 | from → to                                       |
|--------------|-----------------------|-------------------------------------------------|
| tokenizer    | CLIPTokenizer         | text → 48 numbers                               |
| text_encoder | CLIPTextModel         | 48 numbers → 48 vectors                         |
| vae          | AutoencoderKL         | pictures [3 64 64] ↔ latents [4 16 16]          |
| unet         | UNet2DConditionModel  | noisy latents, t, 48 vectors → ε                |
| clip         | CLIPModel             | pictures and texts → one space; patch features  |

All but the last make a `StableDiffusionPipeline`. The last stands where DINOv2, CLIP and an
Inception classifier stand at full size.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import nn

from sd_toybox.model.tokenizer import END, START, WINDOW, token_numbers
from sd_toybox.world.captions import vocabulary

# By name: the types of these libraries differ from release to release.
diffusers: Any = import_module("diffusers")
transformers: Any = import_module("transformers")

PIXELS = 64
LATENTS = 16
CHANNELS = 4  # of the latents, as Stable Diffusion's


@dataclass(frozen=True)
class NetworkSizes:
    """Channels and layers.

    `groups` divides every channel count of the VAE and of the UNet.
    """

    vae_channels: tuple[int, int, int]  # at 64², 32² and 16²
    unet_channels: tuple[int, int]  # at 16² and 8²
    groups: int
    text_width: int
    text_layers: int
    clip_width: int
    clip_layers: int
    clip_patch: int
    heads: int


# At 16² the UNet convolves and at 8² it attends: attention at 16² too costs 1.6 times the time.
# The VAE's time goes into 64², where its few channels are; most of its numbers are at 16².
# A patch of 8 gives the CLIP model 64 of them, as many as an object of this size has parts.
FULL = NetworkSizes(
    vae_channels=(16, 32, 64),
    unet_channels=(64, 128),
    groups=8,
    text_width=128,
    text_layers=3,
    clip_width=128,
    clip_layers=5,
    clip_patch=8,
    heads=4,
)
# For tests: every part is there, and knows nothing.
TINY = NetworkSizes(
    vae_channels=(8, 8, 8),
    unet_channels=(8, 16),
    groups=4,
    text_width=16,
    text_layers=1,
    clip_width=16,
    clip_layers=1,
    clip_patch=16,
    heads=2,
)


def new_vae(sizes: NetworkSizes) -> nn.Module:
    """[3 64 64] ↔ [4 16 16]. Its scaling factor is 1 until it is measured.

    Without attention, so that what it learns of squares of a picture holds for the whole.
    """
    levels = len(sizes.vae_channels)
    network: nn.Module = diffusers.AutoencoderKL(
        block_out_channels=sizes.vae_channels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        layers_per_block=1,
        norm_num_groups=sizes.groups,
        mid_block_add_attention=False,
        latent_channels=CHANNELS,
        sample_size=PIXELS,
        scaling_factor=1.0,
        force_upcast=False,
    )
    return network


def new_unet(sizes: NetworkSizes) -> nn.Module:
    """ε of noisy latents, with cross attention to the text at 8²."""
    network: nn.Module = diffusers.UNet2DConditionModel(
        sample_size=LATENTS,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        block_out_channels=sizes.unet_channels,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=sizes.groups,
        attention_head_dim=sizes.heads,  # the number of heads: diffusers' name is wrong
        cross_attention_dim=sizes.text_width,
    )
    return network


def new_text_encoder(sizes: NetworkSizes) -> nn.Module:
    """The UNet's reader; it learns with it."""
    network: nn.Module = transformers.CLIPTextModel(
        transformers.CLIPTextConfig(**_text(sizes, projection=sizes.text_width))
    )
    return network


def new_clip(sizes: NetworkSizes) -> nn.Module:
    """Pictures and texts in one space, half as wide as the vision transformer."""
    projection = sizes.clip_width // 2
    vision = {
        "hidden_size": sizes.clip_width,
        "intermediate_size": 3 * sizes.clip_width,
        "num_hidden_layers": sizes.clip_layers,
        "num_attention_heads": sizes.heads,
        "image_size": PIXELS,
        "patch_size": sizes.clip_patch,
        "projection_dim": projection,
    }
    network: nn.Module = transformers.CLIPModel(
        transformers.CLIPConfig(
            text_config=_text(sizes, projection=projection),
            vision_config=vision,
            projection_dim=projection,
        )
    )
    return network


def new_scheduler() -> Any:
    """Stable Diffusion's training schedule: √β linear from 0.00085 to 0.012, ε-prediction."""
    return diffusers.DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="epsilon",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def new_image_processor() -> Any:
    """Pictures of any size → 64², each colour from [0, 1] to [-1, 1]."""
    return transformers.CLIPImageProcessorPil(
        size={"shortest_edge": PIXELS},
        crop_size={"height": PIXELS, "width": PIXELS},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )


def parameters_of(network: nn.Module) -> int:
    """How many numbers it learnt."""
    return sum(parameter.numel() for parameter in network.parameters())


@contextmanager
def initialised_from(seed: int) -> Iterator[None]:
    """Networks made in here begin alike for equal seeds; global random state is untouched."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def _text(sizes: NetworkSizes, *, projection: int) -> dict[str, Any]:
    numbers = token_numbers(vocabulary())
    return {
        "vocab_size": len(numbers),
        "hidden_size": sizes.text_width,
        "intermediate_size": 3 * sizes.text_width,
        "num_hidden_layers": sizes.text_layers,
        "num_attention_heads": sizes.heads,
        "max_position_embeddings": WINDOW,
        "projection_dim": projection,
        "bos_token_id": numbers[START],
        "eos_token_id": numbers[END],
        "pad_token_id": numbers[END],
    }
