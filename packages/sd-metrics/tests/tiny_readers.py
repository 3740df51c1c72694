"""Tiny random models that read pictures and words, on disk as transformers writes them."""

import json
from importlib import import_module

import torch
from torch import Generator
from torch.nn.functional import interpolate

transformers = import_module("transformers")  # by name: its types differ between releases

CPU = torch.device("cpu")
MEAN, STD = [0.48, 0.46, 0.41], [0.27, 0.26, 0.28]
START, END = "[CLS]", "[SEP]"
WORDS = ["[PAD]", "[UNK]", START, END, "[MASK]", "[DEC]", "a", "red", "blue", "bear", "fox", "on"]
LAYERS = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
SIDE, SEED = 28, 3


def save_tokenizer(folder):
    """Of whole words; it puts a start and an end around them."""
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    transformers.BertTokenizer(vocab=vocabulary).save_pretrained(folder)
    return folder


def save_clip(folder):
    text = {"vocab_size": len(WORDS), "max_position_embeddings": 12, "hidden_size": 16, **LAYERS}
    text |= {"bos_token_id": WORDS.index(START), "eos_token_id": WORDS.index(END)}
    eye = {"hidden_size": 20, "image_size": SIDE, "patch_size": 7, **LAYERS}
    config = transformers.CLIPConfig(text_config=text, vision_config=eye, projection_dim=12)
    return _saved(folder, transformers.CLIPModel, config, 0.4)


def save_blip(folder):
    """One that writes captions."""
    text = {"vocab_size": len(WORDS), "max_position_embeddings": 40, "hidden_size": 16, **LAYERS}
    text |= {"bos_token_id": WORDS.index("[DEC]"), "sep_token_id": WORDS.index(END)}
    text |= {"eos_token_id": WORDS.index(END), "pad_token_id": 0, "encoder_hidden_size": 20}
    eye = {"hidden_size": 20, "image_size": SIDE, "patch_size": 7, **LAYERS}
    config = transformers.BlipConfig(text_config=text, vision_config=eye)
    return _saved(folder, transformers.BlipForConditionalGeneration, config, 1.0)


def pictures(count, side=SIDE, seed=1):
    """Of 16 colours each, so that random eyes tell them apart."""
    colours = torch.rand(count, 3, 4, 4, generator=Generator().manual_seed(seed))
    return interpolate(colours, (side, side), mode="nearest")


def normalised(images):
    mean, std = (torch.tensor(each, dtype=images.dtype)[:, None, None] for each in (MEAN, STD))
    return (images - mean) / std


def cosines(folder, images, text):
    """Of a saved CLIP, by one pass of the whole model."""
    model = transformers.CLIPModel.from_pretrained(folder).eval()
    tokens = transformers.AutoTokenizer.from_pretrained(folder)([text], return_tensors="pt")
    with torch.no_grad():
        found = model(
            input_ids=tokens.input_ids,
            attention_mask=tokens.attention_mask,
            pixel_values=normalised(images),
        )
    return (found.logits_per_image[:, 0] / model.logit_scale.exp()).detach()


def _saved(folder, kind, config, spread):
    """Of large weights, so that pictures tell."""
    save_tokenizer(folder)
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        model = kind(config)
        for weight in model.parameters():
            if weight.ndim > 1:  # a bias would have its way whatever is seen
                torch.nn.init.normal_(weight, std=spread)
    model.save_pretrained(folder)
    processor = {"image_mean": MEAN, "image_std": STD}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor), "utf-8")
    return folder
