"""Uniform Score Distillation (Zheng et al. 2025, RecDreamer: "consistent text-to-3D generation via
uniform score distillation").

A model that was trained on the web's pictures knows fronts best, so that score distillation makes
fronts on every side. USD asks a classifier which pose a view shows, and moves the scene away from
the poses that are seen too often, towards those that are seen too rarely.
"""

from sd_core import hookimpl
from sd_core.entries import CommandEntry, GuidanceEntry, MetricEntry


@hookimpl
def sd_guidance_methods() -> list[GuidanceEntry]:
    return [
        GuidanceEntry(
            name="usd",
            summary="Uniform Score Distillation: VSD that sees every pose as often as wanted",
            reference="Zheng et al. 2025, RecDreamer, arXiv:2502.12640",
            config="sd_guidance_usd.options:USDOptions",
            build="sd_guidance_usd.usd:USD",
        )
    ]


@hookimpl
def sd_metrics() -> list[MetricEntry]:
    return [
        MetricEntry(
            name="matching-pose-entropy",
            summary="Entropy of the poses that the matching classifier sees (pEnt)",
            reference="Zheng et al. 2025, RecDreamer, arXiv:2502.12640, appendix C.1",
            config="sd_guidance_usd.pose_entropy:PoseEntropyOptions",
            build="sd_guidance_usd.pose_entropy:MatchingPoseEntropy",
            by_default=False,
        )
    ]


@hookimpl
def sd_commands() -> list[CommandEntry]:
    return [
        CommandEntry(
            name="templates",
            summary="With --guidance usd: the prior's pictures of each pose, for its classifier",
            reference="Zheng et al. 2025, RecDreamer, arXiv:2502.12640, section 3.3",
            config="sd_guidance_usd.templates_command:TemplatesOptions",
            build="sd_guidance_usd.templates_command:make_templates",
        )
    ]
