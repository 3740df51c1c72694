"""My method: one sentence that says the idea, and where it was published."""

from sd_core import hookimpl
from sd_core.entries import GuidanceEntry


@hookimpl
def sd_guidance_methods() -> list[GuidanceEntry]:
    return [
        GuidanceEntry(
            name="my-method",
            summary="My method: the guided prior against a share of the drawn noise",
            reference="Author et al., year, arXiv number",
            config="sd_guidance_my_method.my_method:MyMethodOptions",
            build="sd_guidance_my_method.my_method:MyMethod",
        )
    ]
