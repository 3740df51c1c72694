"""Several scenes as one: drawn in turn, regularised, shown and begun one by one."""

from collections import Counter
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Generator, nn

import fake_plugin
from sd_core.building import build_prior, build_scene, build_stage
from sd_core.cameras import turntable
from sd_core.config import Options
from sd_core.errors import CheckpointError, ConfigError
from sd_core.experiment import Experiment
from sd_core.renderer import AbstractRenderer, Exported, RendererContext, Rendering
from sd_core.renderers.affine import Affine
from sd_core.renderers.particles import Particles, ParticlesOptions
from sd_core.saved_scene import load_state
from sd_core.step import Step
from sd_core.testing.contracts import RendererContract
from small_runs import plugins, same, table

CPU = torch.device("cpu")
STEP = Step(0, 10)
AFFINE = {"name": "particles", "scene": {"name": "affine", "mean": [1.0, -1.0]}, "count": 3}


@dataclass(frozen=True, eq=False)
class Marked(Rendering):
    """A rendering of a kind of its own."""

    mark: float = 0.0


class Number(AbstractRenderer):
    """Pictures of 100·(its own number) + the camera's azimuth; regularised by both."""

    born = 0

    def __init__(self, previous=None):
        super().__init__()
        Number.born += 1
        self.previous, self.prepared = previous, []
        self.number = float(Number.born)
        self.value = nn.Parameter(torch.tensor(100 * self.number))

    def forward(self, cameras):
        images = (self.value + cameras.azimuth).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)
        opacity = None if self.number > 2 else torch.ones(len(cameras), 1, 2, 2)
        return Marked(images, opacity, images[:, :1], mark=self.number)

    def prepare(self, step, generator):
        self.prepared.append((step.index, int(torch.randint(99, (), generator=generator))))

    def regularisation(self, rendering):
        assert isinstance(rendering, Marked) and rendering.mark == self.number
        return rendering.mark * self.value if rendering.mark < 4 else None

    def parameter_groups(self, learning_rate):
        return [{"params": [self.value], "lr": learning_rate * self.number}]

    def export(self, kind, name, options):
        return Exported({f"{name}.{kind}": b"", f"{name}.more": b""}, ("made",))


def context(find=None, previous=None, shape=(3, 2, 2)):
    return RendererContext(shape, Generator().manual_seed(0), CPU, previous, find=find)


def numbers(previous=None, **options) -> Particles:
    """Particles whose values are 100, 200, ..."""
    Number.born = 0
    found = context(lambda name, own, before: Number(before), previous)
    return Particles(ParticlesOptions(scene="number", **options), found)


def tiles(context) -> Particles:
    def find(name, own, previous):
        return fake_plugin.Tiles(fake_plugin.TilesOptions(), context)

    return Particles(ParticlesOptions(scene="tiles", count=3), replace(context, find=find))


def experiment(*stages) -> Experiment:
    return Experiment(table(*stages), plugins())


class TestOneParticle(RendererContract):
    def make(self, context):
        def find(name, own, previous):
            return fake_plugin.Tiles(fake_plugin.TilesOptions(), context)

        found = replace(context, find=find)
        return Particles(ParticlesOptions(scene="tiles", count=1), found)


class TestSeveralParticles(RendererContract):
    def make(self, context):
        return tiles(context)

    @pytest.mark.xfail(reason="a step draws one particle, and the others stay", strict=True)
    def test_every_parameter_gets_a_gradient(self, renderer):
        super().test_every_parameter_gets_a_gradient(renderer)


# what a step draws


def test_cameras_take_turns_with_the_particles_and_views_keep_their_order():
    scene, cameras = numbers(count=4, at_once=3), turntable(6)
    scene.prepare(STEP, Generator().manual_seed(3))
    seen = scene(cameras)
    drawn = list(seen.parts)
    assert len(set(drawn)) == 3
    expected = [100.0 * (drawn[i % 3] + 1) + float(cameras.azimuth[i]) for i in range(6)]
    torch.testing.assert_close(seen.images[:, 0, 0, 0], torch.tensor(expected))


def test_what_one_of_them_has_not_the_whole_has_not():
    scene, cameras = numbers(count=3, at_once=3), turntable(6)
    seen = scene(cameras)  # the third has no opacity, none has normals
    assert seen.opacity is None and seen.normals is None
    assert torch.equal(seen.depth, seen.images[:, :1])
    assert numbers(count=2, at_once=2)(cameras).opacity.shape == (6, 1, 2, 2)


def test_each_is_drawn_equally_often_and_prepared_only_then():
    scene, generator = numbers(count=4, at_once=2), Generator().manual_seed(0)
    pairs = Counter()
    for index in range(480):
        scene.prepare(Step(index, 480), generator)
        pairs[tuple(scene(turntable(2)).parts)] += 1
    assert len(pairs) == 12 and all(first != second for first, second in pairs)
    # Mean 40, deviation √(480·(1/12)·(11/12)) = 6.1.
    assert all(abs(often - 40) < 25 for often in pairs.values())
    told = [len(each.prepared) for each in scene.scenes]
    assert sum(told) == 960 and told == [
        sum(often for pair, often in pairs.items() if index in pair) for index in range(4)
    ]


def test_the_draw_comes_from_the_loops_generator():
    drawn = []
    for _ in range(2):
        scene, generator = numbers(count=9), Generator().manual_seed(5)
        for index in range(6):
            scene.prepare(Step(index, 6), generator)
        drawn.append([each.prepared for each in scene.scenes])
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize("optimiser", ["adam", "adamw", "sgd"])
def test_those_that_are_not_drawn_stay_to_the_bit(optimiser):
    told = {"renderer": {**AFFINE, "at_once": 1}, "steps": 12, "guidance": "vsd"}
    told["optimiser"] = {"name": optimiser, "weight_decay": 0.1}
    chosen = experiment(told)
    prior = build_prior(chosen)
    stage = build_stage(chosen, 0, prior, None)

    def state():
        return [{k: v.clone() for k, v in s.state_dict().items()} for s in stage.renderer.scenes]

    before, seen = state(), set()
    for _ in stage.distill(prior):
        after = state()
        moved = [not same(a, b) for a, b in zip(before, after, strict=True)]
        assert sum(moved) == 1
        before, _ = after, seen.add(moved.index(True))
    assert seen == {0, 1, 2}


def test_a_batch_that_cannot_be_divided_is_refused():
    with pytest.raises(ConfigError) as caught:
        numbers(count=3, at_once=3)(turntable(4))
    assert str(caught.value) == (
        "renderer 'particles': 4 cameras cannot be divided equally among 3 particles. Set "
        "cameras.batch to a multiple of 3, or renderer.at_once to a divisor of the batch."
    )


# what each does for itself


def test_each_regularises_its_own_rendering_and_the_mean_counts():
    scene = numbers(count=3, at_once=3)
    scene.prepare(STEP, Generator())
    total = scene.regularisation(scene(turntable(3)))
    total.backward()
    assert total.item() == pytest.approx((1 * 100 + 2 * 200 + 3 * 300) / 3)
    assert [float(each.value.grad) for each in scene.scenes] == pytest.approx([1 / 3, 2 / 3, 1.0])


def test_one_without_a_term_counts_in_the_mean_and_none_at_all_is_none():
    scene = numbers(count=5, at_once=5)  # the last two have no term
    assert scene.regularisation(scene(turntable(5))).item() == pytest.approx(1400 / 5)
    scene._drawn = (4,)
    assert scene.regularisation(scene(turntable(2))) is None


def test_each_has_its_own_groups_of_parameters():
    groups = numbers(count=3).parameter_groups(0.5)
    assert [group["lr"] for group in groups] == [0.5, 1.0, 1.5]


def test_training_and_looking_reach_every_scene():
    scene = numbers(count=2)
    assert [each.training for each in scene.eval().scenes] == [False, False]
    assert [each.training for each in scene.train().scenes] == [True, True]


def test_a_preview_shows_one_after_the_other_from_all_cameras():
    cameras = turntable(3)
    seen = numbers(count=2).preview(cameras).images[:, 0, 0, 0]
    expected = torch.cat([100 + cameras.azimuth, 200 + cameras.azimuth])
    torch.testing.assert_close(seen, expected)


def test_each_is_written_to_files_of_its_own():
    exported = numbers(count=2).export("txt", "bear", Options())
    assert list(exported.files) == ["bear-0.txt", "bear-0.more", "bear-1.txt", "bear-1.more"]
    assert exported.notes == ("particle 0: made", "particle 1: made")


# how they begin


def test_what_is_random_in_a_beginning_differs_and_what_is_not_is_equal():
    pictures = [scene.pictures for scene in tiles(context()).scenes]
    assert not any(torch.equal(pictures[i], pictures[j]) for i, j in [(0, 1), (0, 2), (1, 2)])
    chosen = experiment({"renderer": AFFINE})
    built = build_scene(chosen, 0, build_prior(chosen), None).renderer
    assert [scene.offset.tolist() for scene in built.scenes] == [[1.0, -1.0]] * 3


def test_each_begins_as_the_one_of_its_number_or_as_the_only_one():
    before = numbers(count=3)
    assert [each.previous for each in numbers(before, count=3).scenes] == list(before.scenes)
    single = Number()
    assert [each.previous for each in numbers(single, count=2).scenes] == [single, single]
    with pytest.raises(ConfigError) as caught:
        numbers(before, count=2)
    assert str(caught.value) == (
        "renderer 'particles': count is 2, but the stage before has 3 particles. Set count = 3, "
        'or start_from = "scratch".'
    )


def test_state_is_loaded_as_each_scene_loads_it(monkeypatch):
    """One that takes its size from its state can, which torch passes over for inner modules."""

    def load(self, state, strict=True, assign=False):
        self.offset = nn.Parameter(torch.empty_like(state["offset"]))
        return nn.Module.load_state_dict(self, state, strict=strict, assign=assign)

    monkeypatch.setattr(Affine, "load_state_dict", load)
    chosen = experiment({"renderer": AFFINE})
    scene = build_scene(chosen, 0, build_prior(chosen), None).renderer
    state = {key: torch.rand_like(value) for key, value in scene.state_dict().items()}
    state["scenes.1.offset"] = torch.rand(7)
    load_state(scene, state, "scene")
    assert same(dict(scene.state_dict()), state)
    with pytest.raises(CheckpointError, match=r"scenes\.3\.offset is of none of 3 particles\."):
        load_state(scene, {**state, "scenes.3.offset": torch.rand(2)}, "scene")
    del state["scenes.2.matrix"]
    with pytest.raises(CheckpointError, match="matrix"):
        load_state(scene, state, "scene")


def test_particles_of_particles_are_seen_as_single_scenes():
    inner = [numbers(count=2), numbers(count=2)]
    found = context(lambda name, own, previous: inner.pop(0))
    nested = Particles(ParticlesOptions(scene="particles", count=2), found)
    assert len(nested.single_scenes) == 4 and len(nested.scenes) == 2
