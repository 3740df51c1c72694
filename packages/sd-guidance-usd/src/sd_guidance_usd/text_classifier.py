"""Which of several texts fits a picture best, as CLIP sees it: the classifier of any words."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from sd_core.errors import ConfigError
from sd_core.shapes import Images
from sd_guidance_usd.pretrained import (
    TOKENIZER_FILES,
    VISION_FILES,
    PictureInput,
    cannot_load,
    folder_of,
    has_tokenizer,
    load_network,
    load_tokenizer,
)
from sd_guidance_usd.rectifier import LogProbabilities

# Where neither the options nor the prior name a CLIP: the largest that OpenAI released at 224
# pixels, with which zero-shot results are usually given.
USUAL_CLIP = "openai/clip-vit-large-patch14"


class TextClassifier:
    """p(c|x) = softmax_c(s·cos(v(x), u_c)): zero-shot CLIP, Radford et al. 2021, section 3.1.2.

    v is CLIP's embedding of the picture, u_c that of the text of class c, and s what the model
    has learned for this softmax (100 in OpenAI's), or 1/τ with `temperature` τ. RecDreamer's
    figure 15 balances male and female so, and its metric cEnt tells poses apart (appendix C.1).

    `model` is a CLIPModel of transformers with its tokenizer, a folder or an id of the hub. Texts
    are encoded once, here; then their encoder is dropped. A text that the model could not read
    whole is refused. Pictures of any size in about [0, 1], stretched as `PictureInput` says.
    """

    def __init__(
        self,
        texts: Mapping[str, str],
        model: str,
        *,
        device: torch.device,
        size: int | None = None,
        temperature: float | None = None,
    ) -> None:
        self.classes = tuple(texts)
        if len(self.classes) < 2:
            raise ConfigError(
                f"guidance.classifier.phrases has {len(self.classes)} classes, of which one is "
                "always certain. Give two or more."
            )
        folder = folder_of(model, (*VISION_FILES, *TOKENIZER_FILES))
        clip = _load_clip(model, folder)
        self._input = PictureInput(
            model, folder, config=clip.vision_model.config, device=device, size=size
        )
        tokenizer, config = load_tokenizer(model, folder), clip.config.text_config
        clip.eval().requires_grad_(False).to(device)
        self._texts = torch.cat(
            [
                _embedded(clip, _tokens(text, tokenizer, model=model, config=config), device)
                for text in texts.values()
            ]
        )
        self._scale = 1 / temperature if temperature else float(clip.logit_scale.exp())
        self._eye, self._projection = clip.vision_model, clip.visual_projection

    def log_probabilities(self, images: Images) -> LogProbabilities:
        seen = self._eye(self._input(images), interpolate_pos_encoding=True).pooler_output
        cosines = normalize(self._projection(seen), dim=1) @ self._texts.T
        return (self._scale * cosines).log_softmax(dim=1)


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
            model, f"it is a {clip.config.model_type}, and the kind text needs a whole CLIP"
        )
    return clip


@torch.no_grad()
def _embedded(clip: Any, tokens: list[int], device: torch.device) -> Float[Tensor, "1 width"]:
    """The text's unit vector. Alone, so that it needs no padding."""
    read = clip.text_model(torch.tensor([tokens], device=device)).pooler_output
    return normalize(clip.text_projection(read), dim=1)


def _tokens(text: str, tokenizer: Any, *, model: str, config: Any) -> list[int]:
    """The text with its start and end, or an error where the model would not read all of it."""
    limit = min(tokenizer.model_max_length, config.max_position_embeddings)
    # `verbose` off: the library warns of a length that we look after ourselves.
    tokens: list[int] = tokenizer(text, truncation=False, verbose=False).input_ids
    if unknown := [word for word in text.split() if _is_unknown(tokenizer, word)]:
        raise ConfigError(
            f"the model '{model}' does not know '{unknown[0]}' in the class's text '{text}'. "
            "Change guidance.classifier.phrases, or name another guidance.classifier.model."
        )
    if len(tokens) > limit:
        raise ConfigError(
            f"the class's text '{text}' has {len(tokens)} tokens, but the model '{model}' reads "
            f"{limit}. Shorten guidance.classifier.phrases, or leave the prompt out of them with "
            "guidance.classifier.whole_phrases = true."
        )
    # Transformers looks for the end, and takes the first token if it is nowhere; 2 in old
    # configurations is another way to find it.
    end = config.eos_token_id
    if max(tokens) >= config.vocab_size or (end != 2 and end not in tokens):
        raise cannot_load(model, "its tokenizer is not that of its network")
    return tokens


def _is_unknown(tokenizer: Any, word: str) -> bool:
    """Whether the word has a token for unknown signs. CLIP's own has one, but never needs it."""
    return tokenizer.unk_token_id in tokenizer(word, add_special_tokens=False).input_ids
