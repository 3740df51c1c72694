"""A plugin for tests: metrics that break what a metric promises."""

from sd_core.entries import MetricEntry
from sd_core.hookspecs import hookimpl
from sd_core.metric import AbstractMetric


@hookimpl
def sd_metrics():
    options = "sd_core.config:Options"
    return [
        MetricEntry("empty", "No number", "", options, "sick_metrics:Empty"),
        MetricEntry("no-metric", "Five", "", options, "sick_metrics:no_metric"),
        MetricEntry("no-options", "None", "", "sick_metrics:Empty", "sick_metrics:Empty"),
        MetricEntry("undefined", "NaN", "", options, "sick_metrics:Undefined"),
    ]


class Empty(AbstractMetric):
    def __init__(self, config, context): ...

    def update(self, images, prompt, cameras): ...

    def compute(self):
        return {}

    def reset(self): ...


class Undefined(Empty):
    def compute(self):
        return {"fine": 1.0, "ratio": float("nan")}


def no_metric(config, context):
    return 5
