"""For authors of plugins: the contracts as test classes (`contracts`), worlds with known answers
(`exact`). Needs the extra: `pip install "sd-core[testing]"`.
"""

from contextlib import suppress

CONTRACT_MODULES = (
    "contract",
    "estimator_contract",
    "guidance_contract",
    "metric_contract",
    "prior_contract",
    "renderer_contract",
)

# pytest shows the values of a failed assert in test files alone, unless it is told of a module
# before that is imported. `exact` needs no pytest, and neither does this package.
with suppress(ModuleNotFoundError):
    import pytest

    pytest.register_assert_rewrite(*(f"{__name__}.{name}" for name in CONTRACT_MODULES))
