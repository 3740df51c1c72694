"""The CLIP model: pictures and the captions that are true of them, and from where they were taken.

It measures and never makes a picture, so it may see all combinations of kind and colour.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from sd_toybox.model.clip_reader import similarities
from sd_toybox.model.networks import NetworkSizes, initialised_from, new_clip
from sd_toybox.model.pose_head import AZIMUTHS, azimuth_shares
from sd_toybox.model.tokenizer import token_rows
from sd_toybox.train.autoencoder import signed
from sd_toybox.train.plan import (
    AZIMUTH_WEIGHT,
    COLOUR_WEIGHT,
    KIND_WEIGHT,
    NAMED_VIEW_SHARE,
    NAMED_WORDS_SHARE,
    PATCH_AZIMUTH_WEIGHT,
    Phase,
    seed_for,
)
from sd_toybox.train.task import Rows, Scalar, Task
from sd_toybox.world.captions import CORRUPTION_WORDS, PAINTING, Caption, View
from sd_toybox.world.kinds import COLOURS, KINDS
from sd_toybox.world.poses import POSES
from sd_toybox.world.samples import WorldLabels, WorldSamples

Numbers = Int[Tensor, " samples"]
Flags = Bool[Tensor, " samples"]
Truth = Bool[Tensor, "pictures captions"]

_MARKS = (*CORRUPTION_WORDS, PAINTING)
_VIEW_OF_POSE: dict[str, View] = dict(zip(POSES, ("front", "side", "back", "side"), strict=True))
_VIEWS: tuple[View, ...] = ("front", "side", "back")


@dataclass(frozen=True)
class Facts:
    """What is true of each picture: indices into KINDS, COLOURS and the views, and its words."""

    kind: Numbers
    colour: Numbers
    view: Numbers
    words: Bool[Tensor, "samples words"]

    def of(self, rows: Numbers) -> "Facts":
        """Those of some pictures."""
        return Facts(self.kind[rows], self.colour[rows], self.view[rows], self.words[rows])


def facts_of(labels: WorldLabels) -> Facts:
    """By their true poses and by what was done to them, not by what their captions say."""
    views = [_VIEWS.index(_VIEW_OF_POSE[pose]) for pose in POSES]
    marked = [[word in said for word in _MARKS] for said in labels.words]
    return Facts(labels.kind, labels.colour, torch.tensor(views)[labels.pose], torch.tensor(marked))


def caption_of(facts: Facts, row: int, *, view: bool, words: bool) -> str:
    """A caption that is true of one picture."""
    said = tuple(word for word, there in zip(_MARKS, facts.words[row], strict=True) if there)
    return Caption(
        KINDS[facts.kind[row]],
        COLOURS[facts.colour[row]],
        _VIEWS[facts.view[row]] if view else None,
        said if words else (),
    ).text()


def truth(facts: Facts, says_view: Flags, says_words: Flags) -> Truth:
    """Whether caption j, made of picture j, is true of picture i.

    It is where kind and colour agree, the view too if j says it, and i has all words that j says.
    """
    same = facts.kind[:, None] == facts.kind
    same &= facts.colour[:, None] == facts.colour
    same &= (facts.view[:, None] == facts.view) | ~says_view
    said = (facts.words & says_words[:, None]).float()
    return same & ((~facts.words).float() @ said.T == 0)


def contrastive_loss(logits: Float[Tensor, "pictures captions"], true: Truth) -> Scalar:
    """CLIP's loss where several captions fit a picture: (H(T, softmax) + H(Tᵀ, softmax))/2.

    A row of T is spread evenly over the captions that are true of its picture, a row of Tᵀ over
    the pictures that its caption is true of. Where each fits but one, this is CLIP's own.
    """
    rows, columns = true.float(), true.T.float()
    by_picture = cross_entropy(logits, rows / rows.sum(1, keepdim=True))
    by_caption = cross_entropy(logits.T, columns / columns.sum(1, keepdim=True))
    return (by_picture + by_caption) / 2


class ClipTask(Task):
    """The contrastive loss, and heads that make the picture's vectors know kind, colour, azimuth.

    The mean of the patches has an azimuth head as well, since patches serve as DINOv2's do. Only
    the pose head is kept.
    """

    name = "clip"

    def __init__(
        self, samples: WorldSamples, phase: Phase, sizes: NetworkSizes, *, tokenizer: Any, seed: int
    ) -> None:
        self.phase = phase
        self.samples = len(samples.pictures)
        self._pictures = samples.pictures
        self._azimuth = samples.labels.cameras.azimuth
        self._facts = facts_of(samples.labels)
        # Tokens of each picture's four captions, row 2·view + words.
        self._tokens = torch.stack(
            [
                token_rows(
                    tokenizer,
                    [
                        caption_of(self._facts, row, view=view, words=words)
                        for row in range(self.samples)
                    ],
                )
                for view in (False, True)
                for words in (False, True)
            ]
        )
        self._end = tokenizer.eos_token_id
        with initialised_from(seed_for(seed, self.name, "weights")):
            self.clip: Any = new_clip(sizes)
            width = sizes.clip_width
            self.pose_head = nn.Linear(width, AZIMUTHS)
            heads = {
                "kind": nn.Linear(width, len(KINDS)),
                "colour": nn.Linear(width, len(COLOURS)),
                "patches": nn.Sequential(nn.LayerNorm(width), nn.Linear(width, AZIMUTHS)),
            }
        self.networks = nn.ModuleDict({"clip": self.clip, "pose": self.pose_head, **heads})

    def losses(self, step: int, rows: Rows, generator: Generator) -> dict[str, Scalar]:
        drawn = torch.rand(2, len(rows), generator=generator)
        view, words = drawn[0] < NAMED_VIEW_SHARE, drawn[1] < NAMED_WORDS_SHARE
        tokens = self._tokens[2 * view.long() + words.long(), rows]
        # Behind the longest text there is only filling, which no causal attention looks back from.
        longest = int((tokens != self._end).sum(1).max()) + 1
        seen = self.clip.vision_model(signed(self._pictures[rows]))
        read = self.clip.text_model(tokens[:, :longest])
        pooled, patches = seen.pooler_output, seen.last_hidden_state[:, 1:].mean(1)
        logits = self.clip.logit_scale.exp() * similarities(self.clip, pooled, read.pooler_output)
        facts = self._facts.of(rows)
        contrast = contrastive_loss(logits, truth(facts, view, words))
        shares = azimuth_shares(self._azimuth[rows])
        kind = cross_entropy(self.networks["kind"](pooled), facts.kind)
        colour = cross_entropy(self.networks["colour"](pooled), facts.colour)
        azimuth = cross_entropy(self.pose_head(pooled), shares)
        of_patches = cross_entropy(self.networks["patches"](patches), shares)
        helping = KIND_WEIGHT * kind + COLOUR_WEIGHT * colour + AZIMUTH_WEIGHT * azimuth
        loss = contrast + helping + PATCH_AZIMUTH_WEIGHT * of_patches
        return {"loss": loss, "contrast": contrast, "azimuth": azimuth, "patches": of_patches}
