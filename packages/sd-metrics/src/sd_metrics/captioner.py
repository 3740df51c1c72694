"""What is on pictures, in words: one caption for each, always the same for the same picture."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Final

import torch

from sd_core.encoders.clip import Clip
from sd_core.encoders.model_recipe import model_recipe
from sd_core.encoders.pretrained import (
    TOKENIZER_FILES,
    VISION_FILES,
    PictureInput,
    cannot_load,
    folder_of,
    library,
    load_tokenizer,
    one_line,
)
from sd_core.errors import ConfigError
from sd_core.shapes import Images
from sd_metrics.shared_models import shared_clip

BEAMS: Final = 3
LONGEST: Final = 30  # tokens


class AbstractCaptioner(ABC):
    """A picture's caption does not depend on the other pictures that are asked about with it."""

    @abstractmethod
    def captions(self, images: Images) -> list[str]:
        """Of each picture in about [0, 1], of any size."""

    @abstractmethod
    def recipe(self) -> dict[str, Any]:
        """What the captions cannot be reproduced without."""


class BlipCaptioner(AbstractCaptioner):
    """A BLIP captioning model of transformers (Li et al. 2022): a folder, or an id of the hub.

    Beam search with `beams` beams, 1 for greedy; never sampled, as T3Bench's are, whose captions
    differ from run to run. Pictures are stretched as `PictureInput` says.
    """

    def __init__(self, model: str, device: torch.device, *, beams: int = BEAMS) -> None:
        folder = folder_of(model, (*VISION_FILES, *TOKENIZER_FILES))
        transformers = library("transformers")
        try:
            kind = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
            if kind.model_type != "blip":
                raise ValueError(f"it is a {kind.model_type}, and a BLIP is needed here")
            network, told = transformers.BlipForConditionalGeneration.from_pretrained(
                folder, dtype=torch.float32, use_safetensors=True, output_loading_info=True
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise cannot_load(model, one_line(error)) from None
        if missing := sorted(told["missing_keys"]):
            raise cannot_load(
                model,
                f"{len(missing)} weights missing, such as {missing[0]}; does it write captions?",
            )
        self._model, self._beams = model, beams
        self._network: Any = network.eval().requires_grad_(False).to(device)
        self._tokenizer = load_tokenizer(model, folder)
        config = network.config.vision_config
        self._input = PictureInput(model, folder, config=config, device=device, size=None)

    @torch.no_grad()
    def captions(self, images: Images) -> list[str]:
        return [self._caption(images[index : index + 1]) for index in range(len(images))]

    def recipe(self) -> dict[str, Any]:
        return {
            "captioner": model_recipe(self._model),
            "beams": self._beams,
            "longest": LONGEST,
        }

    def _caption(self, image: Images) -> str:
        tokens = self._network.generate(
            pixel_values=self._input(image),
            interpolate_pos_encoding=True,
            num_beams=self._beams,
            do_sample=False,
            max_new_tokens=LONGEST,
        )
        # Without the sign for the start, which some tokenizers do not know to be special.
        text: str = self._tokenizer.decode(tokens[0, 1:], skip_special_tokens=True)
        return text.strip()


class ClassCaptioner(AbstractCaptioner):
    """The one of several texts that is nearest to the picture in CLIP's space."""

    def __init__(self, clip: Clip, texts: Sequence[str]) -> None:
        if not texts:
            raise ConfigError(
                "there is no model that writes captions, and no texts to choose from. Name a model "
                "with captioner, such as Salesforce/blip-image-captioning-base."
            )
        self._clip, self._texts = clip, tuple(texts)
        self._embeddings = clip.texts(self._texts)

    @torch.no_grad()
    def captions(self, images: Images) -> list[str]:
        nearest = (self._clip.pictures(images) @ self._embeddings.T).argmax(dim=1)
        return [self._texts[index] for index in nearest.tolist()]

    def recipe(self) -> dict[str, Any]:
        return {
            "captioner": {"clip": model_recipe(self._clip.model), "texts": list(self._texts)},
        }


def build_captioner(
    model: str | None, *, clip: str, texts: Sequence[str], device: torch.device
) -> AbstractCaptioner:
    """A model that writes captions, or else a CLIP that chooses among texts."""
    if model is not None:
        return BlipCaptioner(model, device)
    return ClassCaptioner(shared_clip(clip, device), texts)
