"""What a diffusion prior will need of a GPU's memory, said before it is loaded.

The parts are built without weights on torch's `meta` device and run there (`dry_run.py`), at the
experiment's batch, precision and picture size. Not counted: the scene, and what CUDA and its
libraries take for themselves, about 1 GiB.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sd_core.priors.diffusion.dry_run import peak_bytes
from sd_core.priors.diffusion.family import Family, family_of
from sd_core.priors.diffusion.latent_codec import LatentCodec, latent_shape_of
from sd_core.priors.diffusion.lora import BASE_MODEL
from sd_core.priors.diffusion.model_files import FileOptions, ModelFiles, open_model
from sd_core.priors.diffusion.model_ids import find_model
from sd_core.priors.diffusion.stable_diffusion import (
    StableDiffusionOptions,
    picture_size,
    precisions,
)
from sd_core.residual import PriorPart

META = torch.device("meta")
TEXT_TOKENS = 77  # the window of CLIP's text encoders


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes. `held` stays all the time; of `passing` only the largest exists at any one time."""

    held: dict[str, int]
    passing: dict[str, int]

    @property
    def total(self) -> int:
        """What the prior needs at its worst moment."""
        return sum(self.held.values()) + max(self.passing.values())


def plan_memory(
    config: StableDiffusionOptions,
    *,
    device: torch.device,
    batch: int,
    has_estimator: bool,
    backward_through: frozenset[PriorPart] = frozenset(),
) -> MemoryPlan:
    """For `batch` views a step, classifier-free guidance on. The model must be on this machine.

    `backward_through` is what of the prior the method differentiates.
    """
    files = open_model(find_model(config.model, config.revision), FileOptions(config.variant))
    outline = _Outline.of(config, files, device)
    passing = {
        f"network, {2 * batch} at once": _without_graph(lambda: outline.predict(2 * batch)),
        f"VAE, {batch} forward and backward": lambda: _backward(outline.encode(batch)),
    }
    held = dict(outline.held)
    if has_estimator and config.estimator.kind == "lora":
        if config.estimator.base_model is not None:
            held["estimator's base model"] = _bytes_of_base(config, device)
        learn = f"estimator, {batch} forward and backward"
        passing[learn] = lambda: _backward(outline.predict(batch))
    if "network" in backward_through:
        through = f"network, {2 * batch}, and decoder, {batch}, forward and backward"
        passing[through] = lambda: _backward(outline.decode(outline.predict(2 * batch)[:batch]))
    elif "decoder" in backward_through:
        latents = torch.empty(batch, *outline.latent_shape, device=META, requires_grad=True)
        decoding = f"decoder, {batch} forward and backward"
        passing[decoding] = lambda: _backward(outline.decode(latents))
    return MemoryPlan(held, {name: peak_bytes(run) for name, run in passing.items()})


def _bytes_of_base(config: StableDiffusionOptions, device: torch.device) -> int:
    """Its network and text encoders; it judges the prior's latents, so that its VAE is not read."""
    source = find_model(str(config.estimator.base_model), option=BASE_MODEL)
    files = open_model(source, FileOptions())
    held = _Outline.of(config, files, device).held
    return sum(size for part, size in held.items() if part != "VAE")


@dataclass(frozen=True)
class _Outline:
    """A model's parts without weights; each pass gives its output, with a graph."""

    family: Family
    network: nn.Module
    codec: LatentCodec
    latent_shape: tuple[int, int, int]
    held: dict[str, int]

    @classmethod
    def of(
        cls, config: StableDiffusionOptions, files: ModelFiles, device: torch.device
    ) -> "_Outline":
        family = family_of(files)
        dtype, vae_dtype = precisions(config, files, device)
        size = picture_size(config, files, family)
        network, vae = _blank(files, family.network, dtype), _blank(files, "vae", vae_dtype)
        held = {"network": _bytes(network), "VAE": _bytes(vae)}
        if not config.offload_text_encoder:
            parts = [part for part in ("text_encoder", "text_encoder_2") if files.has(part)]
            held["text encoders"] = sum(_bytes(_blank(files, part, dtype)) for part in parts)
        told = files.read_json("vae/config.json")
        codec = LatentCodec(vae, told, picture_size=size)
        return cls(family, network, codec, latent_shape_of(told, size), held)

    def predict(self, count: int) -> Tensor:
        dtype = next(self.network.parameters()).dtype
        noisy = torch.empty(count, *self.latent_shape, device=META, dtype=dtype, requires_grad=True)
        t = torch.empty(count, device=META, dtype=torch.long)
        return self.family.predict(self.network, noisy, t, _blank_text(self.network, count, dtype))

    def encode(self, count: int) -> Tensor:
        pictures = torch.empty(count, 3, *self.codec.picture_size, device=META, requires_grad=True)
        posterior = self.codec.vae.encode((2 * pictures - 1).to(self.codec.dtype)).latent_dist
        mean: Tensor = posterior.mean
        return mean

    def decode(self, latents: Tensor) -> Tensor:
        return self.codec.decode(latents)


def _blank(files: ModelFiles, component: str, dtype: torch.dtype) -> nn.Module:
    """The part with shapes and no weights."""
    kind = files.class_of(component)
    config = files.read_json(f"{component}/config.json")
    with META:
        # diffusers' classes are made from a table, transformers' from an object.
        of_diffusers = hasattr(kind, "from_config") and not hasattr(kind, "config_class")
        made: nn.Module = (
            kind.from_config(config) if of_diffusers else kind(kind.config_class.from_dict(config))
        )
    # nn.Module.to: diffusers' own warns of layers to keep in float32, also where there are none.
    return nn.Module.to(made, dtype).eval().requires_grad_(False)


def _blank_text(network: Any, count: int, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Conditions of the right shapes, for every family; each reads its own."""
    config = network.config
    tensors = {"text": torch.empty(count, TEXT_TOKENS, config.cross_attention_dim, device=META)}
    if config.get("addition_embed_type") == "text_time":
        pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
        tensors["pooled"] = torch.empty(count, pooled, device=META)
        tensors["sizes"] = torch.empty(count, 6, device=META)
    return {name: tensor.to(dtype) for name, tensor in tensors.items()}


def _without_graph(run: Callable[[], object]) -> Callable[[], object]:
    return torch.no_grad()(run)


def _backward(output: Any) -> None:
    output.backward(torch.empty_like(output))


def _bytes(module: nn.Module) -> int:
    tensors = [*module.parameters(), *module.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
