"""The two ends of the bridge in words: how the picture looks so far, and how it should look."""

from collections.abc import Sequence

# Sec. 3.4: what SDS makes of pictures. Five other lists did no worse (app. B.3).
ARTIFACTS = (
    "oversaturated",
    "smooth",
    "pixelated",
    "cartoon",
    "foggy",
    "hazy",
    "blurry",
    "bad structure",
    "noisy",
    "malformed",
)
# Praise as prompts have it. It is not true of what SDS makes, so the source must not say it.
PRAISE = (
    "detailed",
    "highly detailed",
    "high resolution",
    "detailed high resolution",
    "high quality",
    "best quality",
    "sharp",
    "sharp focus",
    "4k",
    "8k",
    "hd",
    "uhd",
    "hdr",
    "masterpiece",
    "photorealistic",
)


def with_words(text: str, words: Sequence[str]) -> str:
    """ "a bear" and ("smooth", "blurry") make "a bear, smooth, blurry"."""
    return ", ".join([text, *words])


def without_words(text: str, words: Sequence[str]) -> str:
    """The parts between commas that are not among the words, whatever their capitals."""
    dropped = {word.casefold() for word in words}
    parts = text.split(",")
    kept = [part.strip() for part in parts if part.strip().casefold() not in dropped]
    return text if len(kept) == len(parts) else ", ".join(kept)
