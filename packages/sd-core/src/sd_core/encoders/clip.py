"""Pictures and texts in one space, as CLIP sees them (Radford et al. 2021)."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from sd_core.encoders.pretrained import (
    TOKENIZER_FILES,
    VISION_FILES,
    PictureInput,
    cannot_load,
    folder_of,
    has_tokenizer,
    load_network,
    load_tokenizer,
)
from sd_core.errors import ConfigError
from sd_core.shapes import Images

# Where neither the options nor the prior name a CLIP: the largest that OpenAI released at 224
# pixels, with which zero-shot results are usually given.
USUAL_CLIP = "openai/clip-vit-large-patch14"

# Unit vectors.
Embeddings = Float[Tensor, "batch embedding"]


class Clip:
    """A frozen CLIPModel of transformers with its tokenizer: a folder, or an id of the hub.

    `scale` is what it has learned to multiply cosines with before a softmax, 100 in OpenAI's.
    A text that the model could not read whole is refused; `remedy` says what its user may change.
    Pictures of any size in about [0, 1], stretched as `PictureInput` says.
    """

    def __init__(
        self,
        model: str,
        *,
        device: torch.device,
        size: int | None = None,
        remedy: str = "Shorten the text, or name another model.",
    ) -> None:
        self.model, self._device, self._remedy = model, device, remedy
        folder = folder_of(model, (*VISION_FILES, *TOKENIZER_FILES))
        clip = _load_clip(model, folder)
        self._input = PictureInput(
            model, folder, config=clip.vision_model.config, device=device, size=size
        )
        self._tokenizer, self._config = load_tokenizer(model, folder), clip.config.text_config
        clip.eval().requires_grad_(False).to(device)
        self.scale = float(clip.logit_scale.exp())
        self._eye, self._projection = clip.vision_model, clip.visual_projection
        self._reader, self._text_projection = clip.text_model, clip.text_projection

    def pictures(self, images: Images) -> Embeddings:
        """Differentiable in the pictures."""
        seen = self._eye(self._input(images), interpolate_pos_encoding=True).pooler_output
        return normalize(self._projection(seen), dim=1)

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> Embeddings:
        """One by one, so that none needs padding."""
        return torch.cat([self._text(text) for text in texts])

    def forget_texts(self) -> None:
        """Drops the reader, of which a classifier with its texts encoded has no more need."""
        del self._reader, self._text_projection

    def _text(self, text: str) -> Embeddings:
        tokens = torch.tensor([self._tokens(text)], device=self._device)
        return normalize(self._text_projection(self._reader(tokens).pooler_output), dim=1)

    def _tokens(self, text: str) -> list[int]:
        """The text with its start and end, or an error where the model would not read it all."""
        tokenizer, config = self._tokenizer, self._config
        limit = min(tokenizer.model_max_length, config.max_position_embeddings)
        # `verbose` off: the library warns of a length that we look after ourselves.
        tokens: list[int] = tokenizer(text, truncation=False, verbose=False).input_ids
        if unknown := [word for word in text.split() if _is_unknown(tokenizer, word)]:
            raise ConfigError(
                f"the model '{self.model}' does not know '{unknown[0]}' in the text '{text}'. "
                f"{self._remedy}"
            )
        if len(tokens) > limit:
            raise ConfigError(
                f"the text '{text}' has {len(tokens)} tokens, but the model '{self.model}' reads "
                f"{limit}. {self._remedy}"
            )
        # Transformers looks for the end, and takes the first token if it is nowhere; 2 in old
        # configurations is another way to find it.
        end = config.eos_token_id
        if max(tokens) >= config.vocab_size or (end != 2 and end not in tokens):
            raise cannot_load(self.model, "its tokenizer is not that of its network")
        return tokens


def reads_texts(folder: Path) -> bool:
    """Whether a folder has a whole CLIP, with texts, and not another model or its eye alone."""
    try:
        kind = json.loads((folder / "config.json").read_text("utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError):
        return False
    return kind == "clip" and has_tokenizer(folder)


def _load_clip(model: str, folder: Path) -> Any:
    clip = load_network(model, folder)
    if clip.config.model_type != "clip":
        raise cannot_load(
            model, f"it is a {clip.config.model_type}, and a whole CLIP is needed here"
        )
    return clip


def _is_unknown(tokenizer: Any, word: str) -> bool:
    """Whether the word has a token for unknown signs. CLIP's own has one, but never needs it."""
    return tokenizer.unk_token_id in tokenizer(word, add_special_tokens=False).input_ids
