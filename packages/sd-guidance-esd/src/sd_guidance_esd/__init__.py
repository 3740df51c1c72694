"""Entropic Score Distillation (Wang et al. 2024, "Taming Mode Collapse in Score Distillation").

Score distillation moves each view towards a likely picture, whatever the other views show, so all
views may become the same one. ESD asks besides that the views *together* have a large entropy: it
subtracts a share λ of the score of what all cameras see, instead of that of the view alone.
"""

from sd_core import hookimpl
from sd_core.entries import GuidanceEntry


@hookimpl
def sd_guidance_methods() -> list[GuidanceEntry]:
    return [
        GuidanceEntry(
            name="esd",
            summary="Entropic Score Distillation: VSD that also keeps the views apart",
            reference="Wang et al. 2024, Taming Mode Collapse in Score Distillation, "
            "arXiv:2401.00909",
            config="sd_guidance_esd.esd:ESDOptions",
            build="sd_guidance_esd.esd:ESD",
        )
    ]
