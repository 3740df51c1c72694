"""What every metric promises."""

from collections.abc import Sequence

import pytest
import torch
from torch import Generator, Tensor

from sd_core.metric import AbstractMetric
from sd_core.testing import exact
from sd_core.testing.contract import Contract


class MetricContract(Contract):
    """What every metric promises."""

    def make(self) -> AbstractMetric:
        """The metric under test, new. Override this."""
        raise NotImplementedError

    @pytest.fixture
    def images(self) -> Tensor:
        """Six views; override it for a metric that asks for more, or for pictures of its own kind.

        They are once around the object, in equal steps.
        """
        return torch.rand(6, 3, 64, 64, generator=Generator().manual_seed(0))

    def test_the_numbers_are_named_and_finite(self, images: Tensor) -> None:
        numbers = _measure(self.make(), [images])
        assert numbers
        assert {name: type(numbers[name]) for name in numbers} == dict.fromkeys(numbers, float)
        assert torch.tensor(list(numbers.values())).isfinite().all()

    def test_two_updates_equal_one(self, images: Tensor) -> None:
        assert _measure(self.make(), [images[:2], images[2:]]) == pytest.approx(
            _measure(self.make(), [images])
        )

    def test_reset_forgets_everything(self, images: Tensor) -> None:
        metric = self.make()
        _measure(metric, [images[:1].expand_as(images)])  # as many, for whoever needs a full circle
        metric.reset()
        assert _measure(metric, [images]) == pytest.approx(_measure(self.make(), [images]))


def _measure(metric: AbstractMetric, batches: Sequence[Tensor]) -> dict[str, float]:
    start, cameras = 0, exact.some_cameras(sum(map(len, batches)))
    for batch in batches:
        stop = start + len(batch)
        metric.update(batch, exact.PROMPT, cameras.select(slice(start, stop)))
        start = stop
    return metric.compute()
