"""What the tests of distances share: tiny encoders, pictures in folders, and a plugin.

The module is a plugin, too: its command is `reference`.
"""

import json
from importlib import import_module

import torch
from PIL import Image
from torch import Generator

from sd_core import hookimpl
from sd_core.entries import CommandEntry
from sd_core.pictures import to_bytes

START, END = "<|startoftext|>", "<|endoftext|>"
MEAN, STD = [0.48, 0.46, 0.41], [0.27, 0.26, 0.28]
LAYERS = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
EYE = {"hidden_size": 16, "image_size": 28, "patch_size": 7, **LAYERS}


@hookimpl
def sd_commands():
    return [
        CommandEntry(
            name="reference",
            summary="The prior's own pictures",
            reference="",
            config="sd_metrics.reference_command:ReferenceCommandOptions",
            build="sd_metrics.reference_command:make_reference",
        )
    ]


def rand(*shape, seed=0):
    return torch.rand(shape, generator=Generator().manual_seed(seed))


def save(path, picture):
    """A picture [3 h w] in [0, 1]; by its suffix PNG or JPEG. What is read back from a PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    levels = to_bytes(picture[None])[0]
    Image.fromarray(levels).save(path)
    return torch.from_numpy(levels).movedim(-1, 0).float() / 255


def reference_folder(folder, prompts=("a bear", "a fox"), *, of_each=7, side=8):
    """Pictures bear0.png, bear1.png, ..., reddish, greenish and bluish in turn.

    Gives what they are read as, for each prompt.
    """
    captions, found = {}, {}
    for seed, prompt in enumerate(prompts):
        name = prompt.split()[-1]
        pictures = rand(of_each, 3, side, side, seed=seed + 10) ** (seed + 1) / 2
        for index in range(of_each):
            pictures[index, index % 3] += 0.5
        found[prompt] = torch.stack(
            [save(folder / f"{name}{i}.png", each) for i, each in enumerate(pictures)]
        )
        captions |= {f"{name}{i}.png": prompt for i in range(of_each)}
    (folder / "captions.json").write_text(json.dumps(captions), "utf-8")
    return found


def _saved(folder, network, processor=None):
    for weight in network.parameters():  # large ones, so that pictures and texts tell
        torch.nn.init.normal_(weight, std=0.4)
    network.save_pretrained(folder)
    content = processor or {"image_mean": MEAN, "image_std": STD}
    (folder / "preprocessor_config.json").write_text(json.dumps(content), "utf-8")
    return folder


def vit_folder(folder, *, seed=0):
    """A DINOv2 with random weights, saved as the real ones are."""
    transformers = import_module("transformers")  # by name: its types differ between releases
    config = {name: value for name, value in EYE.items() if name != "intermediate_size"}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return _saved(folder, transformers.Dinov2Model(transformers.Dinov2Config(**config)))


def clip_folder(folder, *, seed=3):
    """A CLIP with random weights, whose tokens are letters, up to 40 of them."""
    transformers = import_module("transformers")
    letters = "abcdefghijklmnopqrstuvwxyz0123456789,.'-"
    signs = [*letters, *(f"{letter}</w>" for letter in letters), START, END]
    vocabulary = {sign: number for number, sign in enumerate(signs)}
    text = {"vocab_size": len(signs), "max_position_embeddings": 40, "hidden_size": 16}
    text |= {"bos_token_id": vocabulary[START], "eos_token_id": vocabulary[END], **LAYERS}
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 40, "bos_token": START}
    settings |= {"eos_token": END, "unk_token": END, "pad_token": END}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = transformers.CLIPConfig(text_config=text, vision_config=EYE, projection_dim=12)
        _saved(folder, transformers.CLIPModel(config))
    (folder / "vocab.json").write_text(json.dumps(vocabulary), "utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", "utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    return folder
