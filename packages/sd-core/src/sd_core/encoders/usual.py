"""Which models read a prior's pictures, where a user names none."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Encoders:
    """Folders, or ids of the hub.

    clip        pictures and texts in one space
    features    one vector for a picture, by a vision transformer
    classifier  a classifier of pictures of transformers; None where `classes` stand for it
    classes     texts that the CLIP tells apart in the place of a classifier
    poses       words that a prompt is given to name its view: of the front, a side and the back
    captioner   a model that says in words what is on a picture; None where `classes` are said
    """

    clip: str = "openai/clip-vit-large-patch14"
    features: str = "facebook/dinov2-base"
    classifier: str | None = "microsoft/resnet-50"
    classes: tuple[str, ...] = ()
    poses: tuple[str, ...] = ("from front view", "from side view", "from back view")
    captioner: str | None = "Salesforce/blip-image-captioning-base"


# Of photographs. Ids of the hub as they are today.
USUAL = Encoders()
