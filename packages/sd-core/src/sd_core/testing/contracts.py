"""The contracts as test classes. Subclass the one for your plugin, override `make`, run pytest:

    class TestMyMethod(GuidanceContract):
        def make(self, context):
            return MyMethod(MyMethodOptions(), context)

A plugin that cannot keep a promise overrides that test and marks it
`@pytest.mark.xfail(reason=...)`; an override without a reason fails `test_the_contract_is_whole`.
"""

from sd_core.testing.contract import Contract
from sd_core.testing.estimator_contract import EstimatorContract
from sd_core.testing.guidance_contract import GuidanceContract
from sd_core.testing.metric_contract import MetricContract
from sd_core.testing.prior_contract import PriorContract
from sd_core.testing.renderer_contract import RendererContract

__all__ = [
    "Contract",
    "EstimatorContract",
    "GuidanceContract",
    "MetricContract",
    "PriorContract",
    "RendererContract",
]
