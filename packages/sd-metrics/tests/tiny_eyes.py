"""Tiny models with random weights, saved as the real ones are: a CLIP, classifiers, a DINOv2."""

import json
from importlib import import_module

import torch
from torch import Generator

from sd_core.encoders.usual import Encoders
from sd_core.metric import MetricContext

transformers = import_module("transformers")  # by name: its types differ between releases

CPU = torch.device("cpu")
MEAN, STD = [0.48, 0.46, 0.41], [0.27, 0.26, 0.28]
START, END = "<|startoftext|>", "<|endoftext|>"
LOG_SCALE = 2.5
LIMIT = 64  # tokens of a text; a token is a letter
_LAYERS = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}


def pictures(batch, side=28, seed=1):
    """Each of a colour of its own with squares of others, so that they are told apart."""
    generator = Generator().manual_seed(seed)
    squares = torch.rand(batch, 3, 4, 4, generator=generator)
    colour = torch.rand(batch, 3, 1, 1, generator=generator)
    mixed = (2.4 * colour + 1.6 * squares - 1.5).clamp(0, 1)
    return torch.nn.functional.interpolate(mixed, (side, side))


def context(**encoders):
    """Of a prior with these encoders."""
    return MetricContext(CPU, Encoders(**{name: _text(value) for name, value in encoders.items()}))


def _text(value):
    return value if value is None or isinstance(value, tuple) else str(value)


def save_clip(folder, seed=9):
    """Of large weights, so that texts and pictures tell."""
    folder.mkdir()
    vocabulary = _save_tokenizer(folder)
    text = {"vocab_size": len(vocabulary), "max_position_embeddings": LIMIT, "hidden_size": 16}
    text |= {"bos_token_id": vocabulary[START], "eos_token_id": vocabulary[END], **_LAYERS}
    eye = {"hidden_size": 20, "image_size": 28, "patch_size": 7, **_LAYERS}
    config = transformers.CLIPConfig(text_config=text, vision_config=eye, projection_dim=12)
    _save(folder, lambda: transformers.CLIPModel(config), seed)
    return folder


def save_resnet(folder, *, labels=5, seed=4, **processor):
    """A classifier without patches, as ImageNet's ResNet-50 is."""
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], layer_type="basic", num_labels=labels
    )
    _save(
        folder,
        lambda: transformers.ResNetForImageClassification(config),
        seed,
        std=0.5,
        **processor,
    )
    return folder


def save_vit(folder, *, labels=4, seed=5):
    """A classifier with patches."""
    config = transformers.ViTConfig(
        hidden_size=16, image_size=28, patch_size=7, num_labels=labels, **_LAYERS
    )
    _save(folder, lambda: transformers.ViTForImageClassification(config), seed)
    return folder


def save_dino(folder, seed=6):
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.Dinov2Config(**sizes, image_size=28, patch_size=7)
    _save(folder, lambda: transformers.Dinov2Model(config), seed)
    return folder


def standardised(images):
    mean, std = (torch.tensor(each)[:, None, None] for each in (MEAN, STD))
    return (images - mean) / std


def cosines_of_transformers(folder, images, texts):
    """By one pass of the whole model over padded texts, a row for each picture."""
    tokens = transformers.AutoTokenizer.from_pretrained(folder)(
        list(texts), padding=True, return_tensors="pt"
    )
    model = transformers.CLIPModel.from_pretrained(folder).eval()
    with torch.no_grad():
        logits = model(**tokens, pixel_values=standardised(images)).logits_per_image
        return (logits / model.logit_scale.exp()).double()


def _save(folder, make, seed, *, std=1.0, **processor):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = make()
        for weight in network.parameters():
            torch.nn.init.normal_(weight, std=std)
    if hasattr(network, "logit_scale"):
        network.logit_scale.data.fill_(LOG_SCALE)  # not what a fresh one has
    network.save_pretrained(folder)
    content = {"image_mean": MEAN, "image_std": STD, **processor}
    (folder / "preprocessor_config.json").write_text(json.dumps(content), "utf-8")


def _save_tokenizer(folder):
    """Every letter of ASCII, within a word and at its end."""
    signs = [chr(code) for code in range(33, 127)]
    tokens = [*signs, *(f"{sign}</w>" for sign in signs), START, END]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": LIMIT, "bos_token": START}
    settings |= {"eos_token": END, "unk_token": END, "pad_token": END}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), "utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", "utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    return vocabulary
