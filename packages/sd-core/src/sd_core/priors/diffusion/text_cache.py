"""Texts are encoded once each, and the encoders can be given up in between."""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from sd_core.priors.diffusion.family import EncodeOne
from sd_core.priors.diffusion.text_windows import aligned

# Views of a prompt, its negatives, a few more: a row of SDXL takes 630 kB in float32.
_ROWS = 128


class TextCache:
    """Prompts → tensors with one row for each. Keeps the `_ROWS` texts used last.

    Each prompt is encoded alone, so that its row has the same bits in whichever batch it is asked
    for. `load` makes the encoder on first use; with `offload` it is dropped after each call.
    """

    def __init__(self, load: Callable[[], EncodeOne], *, offload: bool) -> None:
        self._load = load
        self._offload = offload
        self._encoder: EncodeOne | None = None
        self._rows: OrderedDict[str, Mapping[str, Tensor]] = OrderedDict()

    @property
    def encoder_is_loaded(self) -> bool:
        """Whether the text encoders take memory now."""
        return self._encoder is not None

    def encode(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """One row for each prompt, in their order."""
        rows = aligned([self._row(prompt) for prompt in prompts])
        if self._offload and self._encoder is not None:
            self._encoder = None
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        return {name: torch.cat([row[name] for row in rows]) for name in rows[0]}

    def _row(self, prompt: str) -> Mapping[str, Tensor]:
        row = self._rows.get(prompt)
        if row is None:
            self._encoder = self._encoder or self._load()
            with torch.no_grad():
                row = self._rows[prompt] = self._encoder(prompt)
            if len(self._rows) > _ROWS:
                self._rows.popitem(last=False)
        self._rows.move_to_end(prompt)
        return row
