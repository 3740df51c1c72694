"""Score distillation as a bridge (McAllister et al. 2024).

What is optimised is not yet a natural picture: it comes from some other distribution, and score
distillation moves it from there to the pictures that the prompt asks for. SDS takes the wrong
place to come from, the pictures of anything, so that colours and contrast run away. Here the model
itself is told in words what the pictures look like so far: oversaturated, smooth, blurry, ...
"""

from sd_core import hookimpl
from sd_core.entries import GuidanceEntry


@hookimpl
def sd_guidance_methods() -> list[GuidanceEntry]:
    return [
        GuidanceEntry(
            name="bridge",
            summary="A bridge between two texts: from how it looks so far to how it should look",
            reference="McAllister et al. 2024, Rethinking Score Distillation as a Bridge Between "
            "Image Distributions, arXiv:2406.09417",
            config="sd_guidance_bridge.options:BridgeOptions",
            build="sd_guidance_bridge.bridge:Bridge",
        )
    ]
