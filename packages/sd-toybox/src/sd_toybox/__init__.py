"""A small world of coloured toys with known poses, and what is learnt from its pictures."""

from sd_core import hookimpl
from sd_core.entries import PriorEntry


@hookimpl
def sd_priors() -> list[PriorEntry]:
    return [
        PriorEntry(
            name="toybox",
            summary="A small text-to-image model of a world whose true poses are known",
            reference="this project",
            config="sd_toybox.model.toybox_prior:ToyboxOptions",
            build="sd_toybox.model.toybox_prior:build",
        )
    ]
