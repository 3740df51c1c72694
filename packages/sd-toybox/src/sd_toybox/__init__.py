"""A small world of coloured toys with known poses, and what is learnt from its pictures."""

from sd_core import hookimpl
from sd_core.entries import MetricEntry, PriorEntry


@hookimpl
def sd_priors() -> list[PriorEntry]:
    return [
        PriorEntry(
            name="toybox",
            summary="A small text-to-image model of a world whose true poses are known",
            reference="this project",
            config="sd_toybox.model.toybox_prior:ToyboxOptions",
            build="sd_toybox.model.toybox_prior:build",
            stages="sd_toybox.model.stages:STAGES",
            encoders="sd_toybox.model.encoders:ENCODERS",
        )
    ]


@hookimpl
def sd_metrics() -> list[MetricEntry]:
    return [
        MetricEntry(
            name="janus-faces",
            summary="How many faces a toy has around its orbit; 1 is right",
            reference="this project",
            config="sd_toybox.meter.orbit_metric:MeterOptions",
            build="sd_toybox.meter.janus_faces:JanusFaces",
        ),
        MetricEntry(
            name="pose-consistency",
            summary="How well the pose that a toy shows follows the camera around it",
            reference="this project",
            config="sd_toybox.meter.orbit_metric:MeterOptions",
            build="sd_toybox.meter.pose_consistency:PoseConsistency",
        ),
    ]
