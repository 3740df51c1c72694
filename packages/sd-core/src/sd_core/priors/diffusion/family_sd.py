"""Stable Diffusion 1 and 2: one CLIP text encoder, a UNet that predicts ε or v."""

from collections.abc import Mapping

from torch import Tensor, nn

from sd_core.priors.diffusion.family import EncodeOne, TextSettings
from sd_core.priors.diffusion.model_files import ModelFiles
from sd_core.priors.diffusion.text_windows import TEXT, token_windows
from sd_core.shapes import Latents, Timesteps


class StableDiffusion:
    """ε or v = unet(x_t, t, text), text = the text encoder's last layer, normalised."""

    name = "stable-diffusion"
    network = "unet"

    def matches(self, files: ModelFiles) -> bool:
        if not (files.has("unet") and files.has("text_encoder")):
            return False
        config = files.read_json("unet/config.json")
        # Models for filling in, depth or editing read more channels than the latents have, and
        # some read classes or pooled text besides: their score is of something else.
        extra = (config.get("addition_embed_type"), config.get("class_embed_type"))
        return config.get("in_channels") == config.get("out_channels") and extra == (None, None)

    def text_encoder(self, files: ModelFiles, settings: TextSettings) -> EncodeOne:
        tokenizer = files.load_tokenizer("tokenizer")
        encoder = files.load("text_encoder", settings.dtype).to(settings.device)

        def encode(prompt: str) -> Mapping[str, Tensor]:
            windows = token_windows(tokenizer, prompt, settings.long_prompts)
            text = encoder(windows.to(settings.device)).last_hidden_state
            return {TEXT: text.flatten(0, 1).unsqueeze(0)}

        return encode

    def predict(
        self, network: nn.Module, noisy: Latents, t: Timesteps, tensors: Mapping[str, Tensor]
    ) -> Latents:
        output: Latents = network(noisy, t, encoder_hidden_states=tensors[TEXT]).sample
        return output
