"""What a user may say about the distances to a reference."""

from pathlib import Path
from typing import Literal

from pydantic import field_validator, model_validator

from sd_core.config import Options, option


class ReferenceOptions(Options):
    """What the views are compared with."""

    reference: str = option(
        ...,
        "Folder of pictures to compare with; score-distill reference makes one.",
        min_length=1,
    )
    pooled: bool = option(
        True, "All objects of a method at once; or else each alone, with its prompt's pictures."
    )

    @field_validator("reference", "weights", check_fields=False)
    @classmethod
    def _the_same_from_everywhere(cls, path: str | None) -> str | None:
        return None if path is None else str(Path(path).expanduser().absolute())


class ClipFidOptions(ReferenceOptions):
    """Of which CLIP."""

    model: str | None = option(None, "Folder or id of a CLIP; None: the usual one of the prior.")


class FidOptions(ReferenceOptions):
    """Whose features."""

    weights: str | None = option(
        None,
        "File with the weights of Inception, pytorch-fid's pt_inception-2015-12-05-6726825d.pth. "
        "None: features of `model`, which are comparable to no published number.",
    )
    model: str | None = option(
        None, "Folder or id of a vision transformer; None: the usual one of the prior."
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> "FidOptions":
        if self.weights is not None and self.model is not None:
            raise ValueError(
                "weights are for Inception, and model is for a vision transformer. Tell one."
            )
        return self


class KidOptions(FidOptions):
    """Whose features, and how many pictures at once."""

    extractor: Literal["inception", "features", "clip"] | None = option(
        None, "Whose features. None: inception where its weights are told, else features."
    )
    subsets: int = option(100, "How many draws, where not all are taken at once.", ge=2)
    subset_size: int | None = option(
        None, "Pictures of each in a draw; None: all at once up to 1000, else 1000.", ge=2
    )
    seed: int = option(0, "Of the draws.", ge=0)

    @model_validator(mode="after")
    def _what_the_extractor_takes(self) -> "KidOptions":
        if self.extractor == "inception" and self.weights is None:
            raise ValueError("the extractor inception needs a file: tell weights, too")
        if self.extractor in ("features", "clip") and self.weights is not None:
            raise ValueError(f"weights are for Inception, but the extractor is {self.extractor}")
        return self


class UfidOptions(FidOptions):
    """As FID, and how the poses of the reference are known."""

    pose_model: str | None = option(
        None, "Folder or id of a CLIP that tells poses; None: the usual one of the prior."
    )
    seed: int = option(0, "Of the draw of equally many pictures of each pose.", ge=0)
