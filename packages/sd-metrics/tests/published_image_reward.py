"""Random weights under the names of ImageReward.pt, and what its network makes of them, by hand.

The formulas of the two transformers, with the names that the published file has: a ViT with its
norms before (Dosovitskiy et al. 2021), and a BERT with its norms behind (Devlin et al. 2019) that
looks at the picture between attention and feed-forward (Li et al. 2022, figure 2).
"""

import math

import torch
from torch import Generator
from torch.nn.functional import conv2d, gelu

EYE, READER = 128, 192  # widths: two and three heads of 64
LAYERS, PATCH, SIDE, KNOWN, LONGEST = 2, 4, 8, 12, 40
HEAD = {0: (READER, 24), 2: (24, 12), 4: (12, 6), 6: (6, 4), 7: (4, 1)}


def published_weights(seed=0):
    """Of a tiny model of two layers each, all that a published file has."""
    shapes = {
        "blip.visual_encoder.cls_token": (1, 1, EYE),
        "blip.visual_encoder.pos_embed": (1, 1 + (SIDE // PATCH) ** 2, EYE),
        "blip.visual_encoder.patch_embed.proj.weight": (EYE, 3, PATCH, PATCH),
        "blip.visual_encoder.patch_embed.proj.bias": (EYE,),
        **_norm("blip.visual_encoder.norm", EYE),
        "blip.text_encoder.embeddings.word_embeddings.weight": (KNOWN, READER),
        "blip.text_encoder.embeddings.position_embeddings.weight": (LONGEST, READER),
        **_norm("blip.text_encoder.embeddings.LayerNorm", READER),
        **_linear("blip.vision_proj", EYE, 16),
        **_linear("blip.text_proj", READER, 16),
    }
    for layer in range(LAYERS):
        block = f"blip.visual_encoder.blocks.{layer}."
        shapes |= {**_norm(block + "norm1", EYE), **_norm(block + "norm2", EYE)}
        shapes |= _linear(block + "attn.qkv", EYE, 3 * EYE)
        shapes |= _linear(block + "attn.proj", EYE, EYE)
        shapes |= _linear(block + "mlp.fc1", EYE, 48) | _linear(block + "mlp.fc2", 48, EYE)
        block = f"blip.text_encoder.encoder.layer.{layer}."
        for kind, seen in (("attention", READER), ("crossattention", EYE)):
            for name, width in (("query", READER), ("key", seen), ("value", seen)):
                shapes |= _linear(f"{block}{kind}.self.{name}", width, READER)
            shapes |= _linear(f"{block}{kind}.output.dense", READER, READER)
            shapes |= _norm(f"{block}{kind}.output.LayerNorm", READER)
        shapes |= _linear(block + "intermediate.dense", READER, 40)
        shapes |= _linear(block + "output.dense", 40, READER)
        shapes |= _norm(block + "output.LayerNorm", READER)
    for index, (width, to) in HEAD.items():
        shapes |= _linear(f"mlp.layers.{index}", width, to)
    generator = Generator().manual_seed(seed)
    weights = {
        name: torch.randn(shape, generator=generator) * _spread(name, shape)
        for name, shape in shapes.items()
    }
    weights["blip.text_encoder.embeddings.position_ids"] = torch.arange(LONGEST)[None]
    return weights


def reward_by_hand(weights, pixels, tokens, attended):
    """In double; `attended` is 0 where a token is padding."""
    weights = {name: each.double() for name, each in weights.items()}
    seen = _see(weights, pixels.double())
    read = _read(weights, seen, tokens, attended.double())
    value = read[:, 0]
    for index in HEAD:
        value = _apply(weights, f"mlp.layers.{index}", value)
    return (value[:, 0] - 0.16717362830052426) / 1.0333394966054072


def _see(weights, pixels):
    eye = "blip.visual_encoder."
    patch = f"{eye}patch_embed.proj."
    cut = conv2d(pixels, weights[patch + "weight"], weights[patch + "bias"], stride=PATCH)
    tokens = cut.flatten(2).mT
    first = weights[eye + "cls_token"].expand(len(tokens), 1, EYE)
    x = torch.cat([first, tokens], dim=1) + weights[eye + "pos_embed"]
    for layer in range(LAYERS):
        block = f"{eye}blocks.{layer}."
        h = _normed(weights, block + "norm1", x, 1e-6)
        query, key, value = _apply(weights, block + "attn.qkv", h).chunk(3, dim=-1)
        x = x + _apply(weights, block + "attn.proj", _attention(query, key, value))
        h = _normed(weights, block + "norm2", x, 1e-6)
        h = gelu(_apply(weights, block + "mlp.fc1", h))
        x = x + _apply(weights, block + "mlp.fc2", h)
    return _normed(weights, eye + "norm", x, 1e-6)


def _read(weights, seen, tokens, attended):
    text = "blip.text_encoder."
    embedding = weights[f"{text}embeddings.word_embeddings.weight"][tokens]
    position = weights[f"{text}embeddings.position_embeddings.weight"][: tokens.shape[1]]
    x = _normed(weights, f"{text}embeddings.LayerNorm", embedding + position, 1e-12)
    x = x.expand(len(seen), -1, -1)
    for layer in range(LAYERS):
        block = f"{text}encoder.layer.{layer}."
        for kind, others, weight in (
            ("attention", x, attended),
            ("crossattention", seen, torch.ones(seen.shape[1])),
        ):
            own, others = x, x if kind == "attention" else others
            query = _apply(weights, f"{block}{kind}.self.query", own)
            key, value = (_apply(weights, f"{block}{kind}.self.{n}", others) for n in _KEY_VALUE)
            h = _attention(query, key, value, weight)
            h = _apply(weights, f"{block}{kind}.output.dense", h)
            x = _normed(weights, f"{block}{kind}.output.LayerNorm", x + h, 1e-12)
        h = gelu(_apply(weights, block + "intermediate.dense", x))
        h = _apply(weights, block + "output.dense", h)
        x = _normed(weights, block + "output.LayerNorm", x + h, 1e-12)
    return x


_KEY_VALUE = ("key", "value")


def _attention(query, key, value, weight=None):
    """Head by head, 64 wide; keys of weight 0 are not looked at."""
    heads = []
    for q, k, v in zip(*(each.split(64, dim=-1) for each in (query, key, value)), strict=True):
        looks = (q @ k.mT / math.sqrt(64)).exp()
        looks = looks if weight is None else looks * weight
        heads.append(looks / looks.sum(dim=-1, keepdim=True) @ v)
    return torch.cat(heads, dim=-1)


def _apply(weights, name, x):
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def _normed(weights, name, x, epsilon):
    apart = x - x.mean(dim=-1, keepdim=True)
    spread = (apart.square().mean(dim=-1, keepdim=True) + epsilon).sqrt()
    return apart / spread * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def _linear(name, width, to):
    return {f"{name}.weight": (to, width), f"{name}.bias": (to,)}


def _norm(name, width):
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _spread(name, shape):
    """Small where the picture enters, so that the norms' epsilon is seen; else tokens differ."""
    if any(part in name for part in ("patch_embed", "cls_token", "pos_embed")):
        return 2e-3 if len(shape) < 4 else 5e-4
    if ".visual_encoder." in name and name.endswith(("proj.weight", "fc2.weight", "bias")):
        return 1e-3
    return 1.0 if len(shape) == 1 else 1.5 / math.sqrt(shape[-1])
