"""Where in its pictures a network attends to what the text names."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

from sd_core.shapes import Latents, Saliency

# diffusers' name of the attention to the text in each transformer block of a UNet.
TO_THE_TEXT = "attn2"


def attention_to_words(
    network: nn.Module, call: Callable[[], object], latents: Latents
) -> Saliency:
    """1 - a_start, a = softmax(q·kᵀ/√d) over the tokens, mean over heads and layers.

    `call` runs the network once on `latents`. A place that is nothing of what the text names
    attends to the text's first token, its start, which is the same in every text.
    """
    height, width = latents.shape[-2:]
    # What is compiled would not hear the hooks, or keep them.
    with torch.compiler.set_stance("force_eager"), _listening(network) as found:
        call()
    maps = [_on_grid(each, height, width) for each in found]
    return torch.stack(maps).mean(dim=0)


@contextmanager
def _listening(network: nn.Module) -> Iterator[list[Float[Tensor, "batch places"]]]:
    """Of each layer that is called in here, how much of its attention the start does not have."""
    found: list[Tensor] = []

    def note(layer: Any, inputs: tuple[Tensor, ...], named: dict[str, Any]) -> None:
        (places,), text = inputs, named["encoder_hidden_states"]
        query, key = (
            layer.head_to_batch_dim(part) for part in (layer.to_q(places), layer.to_k(text))
        )
        shares = layer.get_attention_scores(query, key)  # [batch·heads places tokens]
        found.append((1 - shares[..., 0]).unflatten(0, (len(places), -1)).mean(dim=1))

    layers = [layer for name, layer in network.named_modules() if name.endswith(TO_THE_TEXT)]
    handles = [layer.register_forward_pre_hook(note, with_kwargs=True) for layer in layers]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _on_grid(
    flat: Float[Tensor, "batch places"], height: int, width: int
) -> Float[Tensor, "batch height width"]:
    """A layer sees the latents at half their size, or a quarter, and so on."""
    rows = round((flat.shape[1] * height / width) ** 0.5)
    small = flat.float().view(len(flat), 1, rows, -1)
    return interpolate(small, (height, width), mode="bilinear")[:, 0]
