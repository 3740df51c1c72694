"""What every metric promises."""

import json
from collections.abc import Sequence
from typing import ClassVar

import pytest
import torch
from torch import Generator, Tensor

from sd_core.metric import AbstractMetric
from sd_core.testing import exact
from sd_core.testing.contract import Contract


class MetricContract(Contract):
    """What every metric promises.

    `objects` is how many objects of one prompt it must see before it can be asked: a metric whose
    scope is "method" may need two.
    """

    objects: ClassVar[int] = 1

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
        numbers = self._measure(self.make(), [images])
        assert numbers
        assert {name: type(numbers[name]) for name in numbers} == dict.fromkeys(numbers, float)
        assert torch.tensor(list(numbers.values())).isfinite().all()

    def test_two_updates_equal_one(self, images: Tensor) -> None:
        assert self._measure(self.make(), [images[:2], images[2:]]) == pytest.approx(
            self._measure(self.make(), [images])
        )

    def test_reset_forgets_everything(self, images: Tensor) -> None:
        metric = self.make()
        self._measure(metric, [images[:1].expand_as(images)])  # as many, for a full circle
        metric.reset()
        assert self._measure(metric, [images]) == pytest.approx(
            self._measure(self.make(), [images])
        )

    def test_what_it_tells_besides_its_numbers_can_be_written_down(self, images: Tensor) -> None:
        metric = self.make()
        numbers = self._measure(metric, [images])
        assert set(metric.deviations()) <= set(numbers)
        deviations = metric.deviations()
        metric.reset()
        json.dumps({"deviations": deviations, "recipe": metric.recipe()}, allow_nan=False)

    def test_an_object_that_was_refused_leaves_nothing_behind(self, images: Tensor) -> None:
        metric = self.make()
        if metric.scope != "method":
            pytest.skip("it is reset before each object")
        metric.update(images.flip(0) / 2, exact.PROMPT, exact.some_cameras(len(images)))
        metric.drop_object()
        assert self._measure(metric, [images]) == pytest.approx(
            self._measure(self.make(), [images])
        )

    def _measure(self, metric: AbstractMetric, batches: Sequence[Tensor]) -> dict[str, float]:
        """Of so many objects, each darker than the one before."""
        for place in range(self.objects):
            start, cameras = 0, exact.some_cameras(sum(map(len, batches)))
            for batch in batches:
                stop = start + len(batch)
                shown = batch * (1 - place / (2 * self.objects))
                metric.update(shown, exact.PROMPT, cameras.select(slice(start, stop)))
                start = stop
            metric.end_object(f"object {place}")
        return metric.compute()
