"""Stable Diffusion XL: two text encoders, pooled text and picture sizes as added conditions."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sd_core.priors.diffusion.family import EncodeOne, TextSettings
from sd_core.priors.diffusion.model_files import ModelFiles
from sd_core.priors.diffusion.text_windows import TEXT, token_windows
from sd_core.shapes import Latents, Timesteps


class StableDiffusionXL:
    """ε = unet(x_t, t, text, pooled, sizes).

    text    the second-to-last layers of both encoders, side by side
    pooled  the second encoder's summary of the first window
    sizes   "an uncropped picture of this very size": (H, W), crop (0, 0), (H, W)

    The empty prompt is zeros in place of both texts, where the model was trained so
    (force_zeros_for_empty_prompt).
    """

    name = "stable-diffusion-xl"
    network = "unet"

    def matches(self, files: ModelFiles) -> bool:
        parts = ("unet", "text_encoder", "text_encoder_2")
        if not all(files.has(part) for part in parts):
            return False
        config = files.read_json("unet/config.json")
        channels_fit = config.get("in_channels") == config.get("out_channels")
        return channels_fit and config.get("addition_embed_type") == "text_time"

    def text_encoder(self, files: ModelFiles, settings: TextSettings) -> EncodeOne:
        device, long = settings.device, settings.long_prompts
        readers = [
            (files.load_tokenizer(f"tokenizer{mark}"), _encoder(files, mark, settings))
            for mark in ("", "_2")
        ]
        sizes = torch.tensor(
            [[*settings.picture_size, 0, 0, *settings.picture_size]],
            device=device,
            dtype=torch.float32,
        )
        zeros = bool(files.index.get("force_zeros_for_empty_prompt", True))

        def encode(prompt: str) -> Mapping[str, Tensor]:
            outputs = [
                encoder(
                    token_windows(tokenizer, prompt, long).to(device), output_hidden_states=True
                )
                for tokenizer, encoder in readers
            ]
            layers = torch.cat([output.hidden_states[-2] for output in outputs], dim=-1)
            text, pooled = layers.flatten(0, 1).unsqueeze(0), outputs[1].text_embeds[:1]
            if not prompt and zeros:
                text, pooled = torch.zeros_like(text), torch.zeros_like(pooled)
            return {TEXT: text, "pooled": pooled, "sizes": sizes}

        return encode

    def predict(
        self, network: nn.Module, noisy: Latents, t: Timesteps, tensors: Mapping[str, Tensor]
    ) -> Latents:
        added = {"text_embeds": tensors["pooled"], "time_ids": tensors["sizes"]}
        output: Latents = network(
            noisy, t, encoder_hidden_states=tensors[TEXT], added_cond_kwargs=added
        ).sample
        return output


def _encoder(files: ModelFiles, mark: str, settings: TextSettings) -> nn.Module:
    return files.load(f"text_encoder{mark}", settings.dtype).to(settings.device)
