"""What a vision transformer sees in pictures: one vector for the whole, one for each patch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sd_core.encoders.pretrained import VISION_FILES, PictureInput, folder_of, load_network
from sd_core.errors import ConfigError
from sd_core.shapes import Images


@dataclass(frozen=True, eq=False)
class Features:
    """Of each picture: the global token, and the patches in rows from the top."""

    whole: Float[Tensor, "batch whole_width"]
    patches: Float[Tensor, "batch rows columns width"]


# Whatever gives features of pictures in [0, 1].
Extractor = Callable[[Images], Features]


class FeatureExtractor:
    """A frozen vision transformer of transformers: DINOv2 and its like, or the eye of a CLIP.

    Pictures of any size, stretched as `PictureInput` says. Features are differentiable in them.

    | model        | whole                         | patches                                  |
    |--------------|-------------------------------|------------------------------------------|
    | CLIP         | the class token, last layer   | tokens after half of the layers          |
    | all others   | the class token, last layer   | tokens of the last layer, no registers   |

    CLIP's embedding is a projection of its class token to what captions tell apart. Its loss sees
    no patch, so what the last layer makes of them reaches nothing. Both choices are measured with
    the toybox's CLIP alone, which was taught azimuths, from its class token and from the mean of
    its last patches: there the embedding knows less of the pose, and the last patches know it
    all over the picture, so that the object is not found among them.
    """

    def __init__(self, model: str, *, device: torch.device, size: int | None = None) -> None:
        folder = folder_of(model, VISION_FILES)
        self._name = model
        loaded = load_network(model, folder)
        network: nn.Module = loaded.vision_model if loaded.config.model_type == "clip" else loaded
        self.network = network.eval().requires_grad_(False).to(device)
        config: Any = network.config
        self._input = PictureInput(model, folder, config=config, device=device, size=size)
        self._is_clip = config.model_type == "clip_vision_model"
        self._middle = int(config.num_hidden_layers) // 2  # state 0 enters the first layer
        self._others = 1 + int(getattr(config, "num_register_tokens", 0))
        self.size = self._input.size

    def __call__(self, images: Images) -> Features:
        pixels = self._input(images)
        whole, tokens = self._clip(pixels) if self._is_clip else self._plain(pixels)
        side = self.size // self._input.patch
        if tokens.shape[1] != self._others + side * side:
            raise ConfigError(
                f"'{self._name}' makes {tokens.shape[1]} tokens of {side}² patches, expected "
                f"{self._others} and the patches. Choose a plain vision transformer, such as "
                "facebook/dinov2-small."
            )
        return Features(whole, torch.unflatten(tokens[:, self._others :], 1, (side, side)))

    def _clip(self, pixels: Images) -> tuple[Tensor, Tensor]:
        seen = self.network(pixels, interpolate_pos_encoding=True, output_hidden_states=True)
        return seen.pooler_output, seen.hidden_states[self._middle]

    def _plain(self, pixels: Images) -> tuple[Tensor, Tensor]:
        tokens: Tensor = self.network(pixels).last_hidden_state
        return tokens[:, 0], tokens
