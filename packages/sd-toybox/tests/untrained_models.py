"""Models of the smallest sizes with random weights, on disk as the trained ones are."""

import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # before the hub is imported: it reads this once

import torch
from torch import nn

from sd_toybox.model.folders import CLIP, save_clip, save_pipeline
from sd_toybox.model.networks import (
    TINY,
    initialised_from,
    new_clip,
    new_image_processor,
    new_scheduler,
    new_text_encoder,
    new_unet,
    new_vae,
)
from sd_toybox.model.pose_head import AZIMUTHS
from sd_toybox.model.tokenizer import new_tokenizer


def untrained_networks(seed: int = 0) -> dict[str, nn.Module]:
    """All of them, in 32 bits; equal for equal seeds."""
    with initialised_from(seed):
        return {
            "vae": new_vae(TINY).eval(),
            "unet": new_unet(TINY).eval(),
            "text_encoder": new_text_encoder(TINY).eval(),
            "clip": new_clip(TINY).eval(),
            "pose_head": nn.Linear(TINY.clip_width, AZIMUTHS),
        }


def save_untrained(folder: Path, seed: int = 0) -> Path:
    """A folder such as `python -m sd_toybox.train` makes."""
    networks, tokenizer = untrained_networks(seed), new_tokenizer()
    parts = {name: networks[name] for name in ("vae", "unet", "text_encoder")}
    save_pipeline(folder, {**parts, "tokenizer": tokenizer, "scheduler": new_scheduler()})
    readers = (tokenizer, new_image_processor())
    save_clip(folder / CLIP, networks["clip"], networks["pose_head"], *readers)
    return folder


def some_pictures(count: int, pixels: int = 64) -> torch.Tensor:
    """Random pictures in [0, 1]."""
    return torch.rand(count, 3, pixels, pixels, generator=torch.Generator().manual_seed(count))
