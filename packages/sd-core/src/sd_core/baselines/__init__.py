"""The built-in methods, offered through the same hook as everybody else's."""

from sd_core.entries import GuidanceEntry
from sd_core.hookspecs import hookimpl


@hookimpl
def sd_guidance_methods() -> list[GuidanceEntry]:
    return [
        GuidanceEntry(
            name="sds",
            summary="Score Distillation Sampling: the guided prior against the drawn noise",
            reference="Poole et al. 2022, DreamFusion, arXiv:2209.14988",
            config="sd_core.baselines.sds:SDSOptions",
            build="sd_core.baselines.sds:SDS",
        ),
        GuidanceEntry(
            name="vsd",
            summary="Variational Score Distillation: the guided prior against a learned score",
            reference="Wang et al. 2023, ProlificDreamer, arXiv:2305.16213",
            config="sd_core.baselines.vsd:VSDOptions",
            build="sd_core.baselines.vsd:VSD",
        ),
        GuidanceEntry(
            name="mix",
            summary="Noising, target and source each taken from another installed method",
            reference="this project",
            config="sd_core.baselines.mix:MixOptions",
            build="sd_core.baselines.mix:Mix",
        ),
    ]
