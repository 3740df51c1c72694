"""Tiny Stable Diffusion models with random weights, on disk as the real ones are.

    folder = save_tiny_pipeline(tmp_path / "model", "sd1")

They know nothing, but every part of a real model is there: a tokenizer, text encoders, a VAE, a
UNet with attention, a scheduler's configuration. Made without the hub, in under a second.
"""

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, get_args

import torch
from torch import nn

from sd_core.prior import PriorContext
from sd_core.priors.diffusion.diffusion_prior import StableDiffusionPrior
from sd_core.priors.diffusion.stable_diffusion import StableDiffusionOptions, build

# By name: the types of these libraries differ from release to release.
diffusers: Any = import_module("diffusers")
transformers: Any = import_module("transformers")

Family = Literal["sd1", "sd2-v", "sdxl"]
FAMILIES: tuple[Family, ...] = get_args(Family)

START, END = "<|startoftext|>", "<|endoftext|>"
WINDOW = 77  # tokens, as the real encoders
TEXT_WIDTH = 16
POOLED_WIDTH = 12  # unlike the width of the text, so that a mix-up is an error
TIME_ID_WIDTH = 8


def save_tiny_pipeline(
    folder: Path | str, family: Family, *, seed: int = 0, sample_size: int = 8
) -> Path:
    """A pipeline folder of the family, equal for equal seeds; global random state is untouched.

    Latents are [4, sample_size, sample_size], pictures twice as large. A token is one letter.
    """
    folder = Path(folder)
    with _own_random_state(seed), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries about themselves
        pipeline = _sdxl(sample_size) if family == "sdxl" else _sd(family, sample_size)
        pipeline.save_pretrained(folder, safe_serialization=True)
    return folder


def tiny_prior(folder: Path) -> StableDiffusionPrior:
    """The saved model, as `--prior stable-diffusion` loads it."""
    return build(StableDiffusionOptions(model=str(folder)), PriorContext(torch.device("cpu")))


@contextmanager
def counted_calls(network: nn.Module) -> Iterator[list[int]]:
    """The batch size of each call of the network."""
    calls: list[int] = []

    def note(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: object) -> None:
        calls.append(len(inputs[0]))

    handle = network.register_forward_hook(note)
    try:
        yield calls
    finally:
        handle.remove()


def _sd(family: Family, sample_size: int) -> Any:
    second = family == "sd2-v"
    return diffusers.StableDiffusionPipeline(
        vae=_vae(scaling_factor=0.18215, sample_size=sample_size, force_upcast=False),
        text_encoder=transformers.CLIPTextModel(_text_config()),
        tokenizer=_tokenizer(padding="!" if second else END),
        unet=_unet(
            sample_size,
            cross_attention_dim=TEXT_WIDTH,
            attention_head_dim=[2, 4] if second else 2,
            use_linear_projection=second,
        ),
        scheduler=_scheduler("v_prediction" if second else "epsilon"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _sdxl(sample_size: int) -> Any:
    return diffusers.StableDiffusionXLPipeline(
        vae=_vae(scaling_factor=0.13025, sample_size=sample_size, force_upcast=True),
        text_encoder=transformers.CLIPTextModel(_text_config()),
        text_encoder_2=transformers.CLIPTextModelWithProjection(
            _text_config(projection_dim=POOLED_WIDTH)
        ),
        tokenizer=_tokenizer(padding=END),
        tokenizer_2=_tokenizer(padding="!"),
        unet=_unet(
            sample_size,
            cross_attention_dim=2 * TEXT_WIDTH,
            attention_head_dim=[2, 4],
            use_linear_projection=True,
            transformer_layers_per_block=[1, 2],
            addition_embed_type="text_time",
            addition_time_embed_dim=TIME_ID_WIDTH,
            projection_class_embeddings_input_dim=POOLED_WIDTH + 6 * TIME_ID_WIDTH,
        ),
        scheduler=_scheduler("epsilon"),
        add_watermarker=False,
    )


def _unet(sample_size: int, **family: Any) -> Any:
    return diffusers.UNet2DConditionModel(
        sample_size=sample_size,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        **family,
    )


def _vae(*, scaling_factor: float, sample_size: int, force_upcast: bool) -> Any:
    return diffusers.AutoencoderKL(
        block_out_channels=(8, 8),  # two levels: pictures are twice as large as latents
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=4,
        sample_size=2 * sample_size,
        scaling_factor=scaling_factor,
        force_upcast=force_upcast,
    )


def _text_config(projection_dim: int = TEXT_WIDTH) -> Any:
    vocabulary = _vocabulary()
    return transformers.CLIPTextConfig(
        vocab_size=len(vocabulary),
        hidden_size=TEXT_WIDTH,
        intermediate_size=2 * TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=WINDOW,
        projection_dim=projection_dim,
        bos_token_id=vocabulary[START],
        eos_token_id=vocabulary[END],
        pad_token_id=vocabulary["!"],
    )


def _scheduler(prediction_type: str) -> Any:
    return diffusers.DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type=prediction_type,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def _tokenizer(padding: str) -> Any:
    """Byte-level, without merges. Read from files: the constructor changed in transformers 5."""
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": WINDOW,
        "bos_token": START,
        "eos_token": END,
        "unk_token": END,
        "pad_token": padding,
    }
    with TemporaryDirectory() as folder:
        (Path(folder) / "vocab.json").write_text(json.dumps(_vocabulary()), "utf-8")
        (Path(folder) / "merges.txt").write_text("#version: 0.2\n", "utf-8")
        (Path(folder) / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
        return transformers.CLIPTokenizer.from_pretrained(folder)


def _vocabulary() -> dict[str, int]:
    """Every byte within a word and at its end; the end of the text last, as in CLIP's own."""
    letters = sorted(_byte_letters())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), START, END]
    return {token: index for index, token in enumerate(tokens)}


def _byte_letters() -> list[str]:
    """A visible sign for each of the 256 bytes."""
    alphabet: list[str] = import_module("tokenizers.pre_tokenizers").ByteLevel.alphabet()
    return alphabet


@contextmanager
def _own_random_state(seed: int) -> Iterator[None]:
    """Weights start from `seed`; the CPU's generator alone, since the models are made there."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
