"""ImageReward (Xu et al. 2023, arXiv 2304.05977) from transformers' own BLIP modules.

The published model, as its code (THUDM/ImageReward) builds it: a ViT-L/16 sees the picture at 224
pixels; BLIP's text encoder, a BERT with cross-attention to all of the picture's tokens, reads the
prompt; five linear layers without activations between them, 768 → 1024 → 128 → 64 → 16 → 1, turn
what stands at the text's first token into m. The reward is r = (m - 0.16717362830052426)/
1.0333394966054072, so that its mean is 0 and its deviation 1 over the pictures it was made with.

IT WAS NEVER RUN WITH THE PUBLISHED WEIGHTS HERE: this project's machines do not have them. Tests
load random weights under the published names, all of them, and compare with modules of transformers
put together by hand. Measure a few pictures with the image-reward package before you quote numbers.
"""

import hashlib
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import safetensors
import safetensors.torch
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

from sd_core.encoders.model_recipe import model_recipe
from sd_core.encoders.pretrained import (
    TOKENIZER_FILES,
    cannot_load,
    folder_of,
    library,
    load_tokenizer,
    one_line,
)
from sd_core.errors import ConfigError
from sd_core.shapes import Images, PerSample
from sd_metrics.reward import AbstractReward

MEAN: Final = 0.16717362830052426
DEVIATION: Final = 1.0333394966054072
LONGEST: Final = 35  # tokens of the prompt, its start and its end among them
TOKENIZER: Final = "google-bert/bert-base-uncased"

# CLIP's, which ImageReward normalises pictures with.
_COLOUR_MEAN = (0.48145466, 0.4578275, 0.40821073)
_COLOUR_STD = (0.26862954, 0.26130258, 0.27577711)

_HEAD_WIDTH = 64  # of an attention head, in ViT-L/16 and in BERT base alike

Weights = Mapping[str, Tensor]

# What is no part of the reward: projections that BLIP was pretrained with, and the positions
# 0, 1, 2 ..., which transformers counts by itself.
_LEFT_OUT = ("blip.vision_proj.", "blip.text_proj.", "blip.text_encoder.embeddings.position_ids")

# Parts of published names, and what stands for them here, one after the other.
_RENAMED = (
    ("mlp.layers.", "head."),
    ("blip.text_encoder.", "reader."),
    ("blip.visual_encoder.cls_token", "eye.embeddings.class_embedding"),
    ("blip.visual_encoder.pos_embed", "eye.embeddings.position_embedding"),
    ("blip.visual_encoder.patch_embed.proj.", "eye.embeddings.patch_embedding."),
    ("blip.visual_encoder.norm.", "eye.post_layernorm."),
    ("blip.visual_encoder.blocks.", "eye.encoder.layers."),
    (".norm1.", ".layer_norm1."),
    (".norm2.", ".layer_norm2."),
    (".attn.qkv.", ".self_attn.qkv."),
    (".attn.proj.", ".self_attn.projection."),
)


class ImageReward(AbstractReward):
    """The reward of pictures of any size, from a file of weights under their published names.

    `weights` is ImageReward.pt, or the same as safetensors; `tokenizer` a folder or an id of the
    hub with BERT's uncased vocabulary. A picture's shorter side is brought to the model's size
    (bicubic, antialiased, cut to [0, 1]), and its middle is cut out. The published code does the
    same to pictures of 8 bits and rounds to 8 bits again, which is not done here. It also cuts a
    prompt off after 35 tokens; here such a prompt is refused.
    """

    def __init__(self, weights: str, tokenizer: str, *, device: torch.device) -> None:
        self._path, self._tokenizer_name = Path(weights).expanduser(), tokenizer
        self._network = load_network(self._path).to(device)
        self._tokenizer = load_tokenizer(tokenizer, folder_of(tokenizer, TOKENIZER_FILES))
        self._device = device
        self._digest = _sha256(self._path)

    @torch.no_grad()
    def scores(self, images: Images, prompt: str) -> PerSample:
        scores: PerSample = self._network(
            image_input(images.to(self._device), self._network.size), self._tokens(prompt)
        )
        return scores

    def recipe(self) -> dict[str, Any]:
        return {
            "reward": "image-reward",
            "weights": self._path.name,
            "sha256": self._digest[:16],
            "tokenizer": model_recipe(self._tokenizer_name, TOKENIZER_FILES),
        }

    def _tokens(self, prompt: str) -> Tensor:
        """Without padding: it would not be looked at."""
        ids: list[int] = self._tokenizer(prompt, truncation=False, verbose=False).input_ids
        if len(ids) > LONGEST:
            raise ConfigError(
                f"the prompt '{prompt}' has {len(ids)} tokens, but ImageReward reads {LONGEST}. "
                "Take the reward 'clip'."
            )
        if max(ids) >= self._network.vocabulary:
            raise cannot_load(self._tokenizer_name, "it is not the tokenizer of these weights")
        return torch.tensor([ids], device=self._device)


class ImageRewardNetwork(nn.Module):
    """The network alone; all of its sizes are read off the weights' shapes.

    Three things that transformers would choose otherwise: the attention heads are 64 wide, the
    picture's layer norms have ε = 1e-6, as in BLIP's own code, and no layer looks forward only.
    """

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        transformers = library("transformers")
        _, channels, patch, _ = weights["eye.embeddings.patch_embedding.weight"].shape
        patches = weights["eye.embeddings.position_embedding"].shape[1] - 1
        width = weights["eye.post_layernorm.weight"].shape[0]
        self.size = patch * round(patches**0.5)
        self.vocabulary, text_width = weights["reader.embeddings.word_embeddings.weight"].shape
        self.eye: Any = transformers.BlipVisionModel(
            transformers.BlipVisionConfig(
                hidden_size=width,
                intermediate_size=weights["eye.encoder.layers.0.mlp.fc1.weight"].shape[0],
                num_hidden_layers=_layers(weights, "eye.encoder.layers."),
                num_attention_heads=width // _HEAD_WIDTH,
                num_channels=channels,
                image_size=self.size,
                patch_size=patch,
                layer_norm_eps=1e-6,
                hidden_act="gelu",
            )
        )
        reader = transformers.BlipTextConfig(
            vocab_size=self.vocabulary,
            hidden_size=text_width,
            encoder_hidden_size=width,
            intermediate_size=weights["reader.encoder.layer.0.intermediate.dense.weight"].shape[0],
            num_hidden_layers=_layers(weights, "reader.encoder.layer."),
            num_attention_heads=text_width // _HEAD_WIDTH,
            max_position_embeddings=weights["reader.embeddings.position_embeddings.weight"].shape[
                0
            ],
            layer_norm_eps=1e-12,
            hidden_act="gelu",
            is_decoder=True,  # or transformers would build no cross-attention
        )
        self.reader: Any = transformers.BlipTextModel(reader, add_pooling_layer=False)
        self.head = _head(weights)

    def forward(self, pixels: Images, tokens: Tensor) -> PerSample:
        """`tokens` is one text, the same for all pictures."""
        seen = self.eye(pixels).last_hidden_state
        read = self.reader(
            tokens.expand(len(pixels), -1), encoder_hidden_states=seen, is_decoder=False
        )
        reward: Tensor = self.head(read.last_hidden_state[:, 0])[:, 0]
        return (reward - MEAN) / DEVIATION


def image_input(images: Images, size: int) -> Float[Tensor, "batch channels size size"]:
    """The middle of the picture, its shorter side as long as `size`, in CLIP's colours."""
    height, width = images.shape[2:]
    shorter = min(height, width)
    scaled = (size * height // shorter, size * width // shorter)
    images = images.float()
    if scaled != (height, width):
        images = interpolate(images, scaled, mode="bicubic", antialias=True).clamp(0, 1)
    top, left = (round((side - size) / 2) for side in scaled)
    middle = images[:, :, top : top + size, left : left + size]
    mean, std = (middle.new_tensor(each)[:, None, None] for each in (_COLOUR_MEAN, _COLOUR_STD))
    return (middle - mean) / std


def load_network(path: Path) -> ImageRewardNetwork:
    """The network with every weight of the file, and no other."""
    weights = renamed(_read(path))
    try:
        with torch.random.fork_rng(devices=[]):  # it starts from random weights
            network = ImageRewardNetwork(weights)
        network.load_state_dict(dict(weights))
    except KeyError as error:
        raise _not_image_reward(path, f"it has no weights called {error.args[0]} here") from None
    except (ValueError, RuntimeError) as error:
        raise _not_image_reward(path, one_line(error)) from None
    return network.eval().requires_grad_(False)


def renamed(published: Weights) -> dict[str, Tensor]:
    """Weights of ImageReward.pt by the names of `ImageRewardNetwork`, in float32."""
    result = {}
    for name, weight in published.items():
        if name.startswith(_LEFT_OUT):
            continue
        for theirs, ours in _RENAMED:
            name = name.replace(theirs, ours)
        result[name] = weight.float()
    return result


def _read(path: Path) -> Weights:
    """No code that came with it: safetensors, or a pickle of tensors alone."""
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        reason = error.strerror or one_line(error)
    except (RuntimeError, EOFError, pickle.UnpicklingError, safetensors.SafetensorError) as error:
        reason = one_line(error)
    else:
        if isinstance(weights, Mapping) and all(
            isinstance(name, str) and isinstance(each, Tensor) for name, each in weights.items()
        ):
            return weights
        reason = "it is no table of tensors"
    raise _not_image_reward(path, reason)


def _head(weights: Weights) -> nn.Sequential:
    """Linear layers where there are weights; between them stands what drops in training alone."""
    shapes = {
        int(match[1]): weight.shape
        for name, weight in weights.items()
        if (match := re.fullmatch(r"head\.(\d+)\.weight", name))
    }
    if not shapes:
        raise KeyError("head.0.weight")
    return nn.Sequential(
        *(
            nn.Linear(shapes[index][1], shapes[index][0]) if index in shapes else nn.Identity()
            for index in range(max(shapes) + 1)
        )
    )


def _layers(weights: Weights, prefix: str) -> int:
    return len(
        {name.removeprefix(prefix).split(".")[0] for name in weights if name.startswith(prefix)}
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _not_image_reward(path: Path, reason: str) -> ConfigError:
    return ConfigError(
        f"cannot load ImageReward from {path}: {reason}. Name the file ImageReward.pt of "
        "THUDM/ImageReward, or its weights as safetensors."
    )
