"""Jensen–Shannon score distillation (Do & Hua 2025), not JointDreamer's method of the same letters.

The paper's formula and the released code are different methods; both are here. The paper subtracts
the prior's prediction at a second sample, one that is meant to suit the prompt less, from that at
the first. The code subtracts nothing: it pulls the picture to what the prior sees in the first
sample, and to what it sees in the second.
"""

from sd_core import hookimpl
from sd_core.entries import GuidanceEntry


@hookimpl
def sd_guidance_methods() -> list[GuidanceEntry]:
    return [
        GuidanceEntry(
            name="jsd",
            summary="Jensen-Shannon score distillation: an inverted sample against an unlikely one",
            reference="Do & Hua 2025, Text-to-3D Generation using Jensen-Shannon Score "
            "Distillation, arXiv:2503.10660",
            config="sd_guidance_jsd.options:JSDOptions",
            build="sd_guidance_jsd.jsd:JSD",
        )
    ]
