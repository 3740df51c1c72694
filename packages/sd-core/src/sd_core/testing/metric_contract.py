"""What every metric promises."""

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import ClassVar

import pytest
import torch
from torch import Generator, Tensor

from sd_core.cameras import CameraBatch
from sd_core.errors import ScoreDistillationError
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

        They are once around the object, in equal steps, or from the metric's wanted cameras.
        """
        return torch.rand(6, 3, 64, 64, generator=Generator().manual_seed(0))

    @pytest.fixture
    def views(self, images: Tensor) -> Tensor:
        """As many as the metric wants, if it wants to see them from places of its own."""
        wanted = _wanted(self.make())
        return images if wanted is None else images[torch.arange(len(wanted)) % len(images)]

    def test_the_numbers_are_named_and_finite(self, views: Tensor) -> None:
        numbers = self._measure(self.make(), [views])
        assert numbers
        assert {name: type(numbers[name]) for name in numbers} == dict.fromkeys(numbers, float)
        assert torch.tensor(list(numbers.values())).isfinite().all()

    def test_two_updates_equal_one(self, views: Tensor) -> None:
        assert self._measure(self.make(), [views[:2], views[2:]]) == pytest.approx(
            self._measure(self.make(), [views])
        )

    def test_reset_forgets_everything(self, views: Tensor) -> None:
        metric = self.make()
        self._measure(metric, [views[:1].expand_as(views)])  # as many, for a full circle
        metric.reset()
        assert self._measure(metric, [views]) == pytest.approx(self._measure(self.make(), [views]))

    def test_the_pictures_stay_untouched(self, views: Tensor) -> None:
        before = views.clone()
        self.make().update(views, exact.PROMPT, _cameras(self.make(), views))
        assert torch.equal(views, before)

    def test_pictures_whose_cameras_nobody_knows_are_judged_or_refused(self, views: Tensor) -> None:
        metric = self.make()
        if metric.needs_cameras:
            pytest.skip("it is never given any")
        with suppress(ScoreDistillationError):
            numbers = self._measure(metric, [views], cameras_known=False)
            assert torch.tensor(list(numbers.values())).isfinite().all()

    def test_what_it_tells_besides_its_numbers_can_be_written_down(self, views: Tensor) -> None:
        metric = self.make()
        numbers = self._measure(metric, [views])
        assert set(metric.deviations()) <= set(numbers)
        deviations = metric.deviations()
        metric.reset()
        json.dumps({"deviations": deviations, "recipe": metric.recipe()}, allow_nan=False)

    def test_an_object_that_was_refused_leaves_nothing_behind(self, views: Tensor) -> None:
        """Nor does it take what was whole with it."""
        metric = self.make()
        if metric.scope != "method":
            pytest.skip("it is reset before each object")
        found = self._measure(metric, [views], refused=views.flip(0) / 2)
        assert found == pytest.approx(self._measure(self.make(), [views]))

    def _measure(
        self,
        metric: AbstractMetric,
        batches: Sequence[Tensor],
        *,
        cameras_known: bool = True,
        refused: Tensor | None = None,
    ) -> dict[str, float]:
        """Of so many objects, each darker than the one before; before and after each another one
        may be refused."""
        cameras = _cameras(metric, torch.cat(list(batches)))
        for place in range(self.objects):
            self._begin_and_drop(metric, refused)
            start = 0
            for batch in batches:
                stop = start + len(batch)
                shown = batch * (1 - place / (2 * self.objects))
                seen_from = cameras.select(slice(start, stop)) if cameras_known else None
                metric.update(shown, exact.PROMPT, seen_from)
                start = stop
            metric.end_object(f"object {place}")
            self._begin_and_drop(metric, refused)
        return metric.compute()

    def _begin_and_drop(self, metric: AbstractMetric, refused: Tensor | None) -> None:
        if refused is not None:
            metric.update(refused, exact.PROMPT, _cameras(metric, refused))
            metric.drop_object()


def _wanted(metric: AbstractMetric) -> CameraBatch | None:
    return metric.wanted_cameras(distance=2.0, vertical_fov_deg=40.0)


def _cameras(metric: AbstractMetric, images: Tensor) -> CameraBatch:
    """Where the pictures are, as the host has it."""
    wanted = _wanted(metric)
    if wanted is None:
        return exact.some_cameras(len(images), images.device)
    return wanted.to(images.device)
