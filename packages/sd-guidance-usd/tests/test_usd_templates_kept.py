"""Templates are kept in the run folder, and a resumed run is the run that was never stopped."""

import shutil
from functools import cache, partial

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Generator

import sd_guidance_usd
import tiny_world
from sd_core.building import build_prior, build_scene, complete_stage
from sd_core.checkpoint import list_checkpoints, load_checkpoint
from sd_core.errors import ConfigError, RunFolderError
from sd_core.experiment import Experiment
from sd_core.plugins import load_plugins
from sd_core.priors.image_bank import ImageBankPrior
from sd_core.run_folder import RunFolder
from sd_core.runner import Start, Stop, find_start, run_stages
from sd_guidance_usd import templates
from tiny_world import CLASSES, bank_folder, encoder_folder

# A random encoder and a random prior: nothing differs.
pytestmark = pytest.mark.filterwarnings("ignore::sd_guidance_usd.separation.TemplatesLookAlike")

STEPS, EVERY = 6, 3
SAMPLING = 25 * 3 * 2  # steps of DDIM, classes, and twice as many as fit into one batch
plugins = cache(partial(load_plugins, installed=False, extra=[sd_guidance_usd, tiny_world]))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("world")
    return bank_folder(root / "bank"), encoder_folder(root / "encoder")


class Run:
    """An experiment of milliseconds with usd, in a run folder."""

    def __init__(self, world, path, *, in_mix=False, **classifier):
        bank, encoder = world
        own = {"kind": "matching", "model": str(encoder)}
        if classifier.get("kind") != "noised":
            own["augmentations"] = 2
        if "templates" not in classifier:
            own["candidates"] = 9
        usd = {"classifier": {**own, **classifier}}
        mix = {"name": "mix", "target": "usd", "source": "vsd", "options": {"usd": usd}}
        stage = {"steps": STEPS, "renderer": "plane"}
        stage["guidance"] = mix if in_mix else {"name": "usd", **usd}
        table = {
            "prompt": "a toy",
            "prior": {"name": "image-bank", "folder": str(bank)},
            "stages": [stage],
            "run": {"threads": 1, "checkpoint_every": EVERY, "preview_every": 0},
        }
        self.experiment = Experiment(table, plugins())
        told = self.experiment.resolved()
        with RunFolder.claimed(path, experiment=told, made_by={}) as self.folder:
            pass

    def steps(self, start=None):
        prior = build_prior(self.experiment)
        begin = start or Start()
        return run_stages(self.experiment, prior, self.folder, start=begin, stop=Stop())

    def go(self, start=None):
        list(self.steps(start))
        return self

    def kill(self, after):
        running = self.steps()
        for _ in range(after):
            next(running)
        running.close()
        return self

    def resume(self):
        return self.go(find_start(self.folder))

    @property
    def templates(self):
        return self.folder.path / "guidance" / "stage_0" / "templates"


def end(run):
    newest = list_checkpoints(run.folder.checkpoints)[-1]
    return load_checkpoint(newest, experiment=run.folder.fingerprint)[1]


def same(one, other):
    """Equal to the bit."""
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


@pytest.fixture
def calls(monkeypatch):
    """One entry for each time that the network is asked."""
    asked = []
    real = ImageBankPrior.predict_noise

    def counted(self, noisy, t, condition):
        asked.append(len(noisy))
        return real(self, noisy, t, condition)

    monkeypatch.setattr(ImageBankPrior, "predict_noise", counted)
    return asked


def pixels(path):
    with Image.open(path) as file:
        return np.array(file.convert("RGB"))


def test_the_chosen_templates_are_in_the_run_folder(world, tmp_path):
    run = Run(world, tmp_path / "run").kill(after=1)
    assert sorted(file.name for file in run.templates.parent.iterdir()) == ["templates"]
    assert sorted(file.name for file in run.templates.iterdir()) == sorted(
        f"{name}.png" for name in CLASSES
    )
    for name in CLASSES:
        known = [pixels(world[0] / f"{name}{index}.png").astype(float) for index in range(2)]
        made = pixels(run.templates / f"{name}.png").astype(float)
        assert min(np.abs(made - each).max() for each in known) < 20


# Before and after the first checkpoint.
@pytest.mark.parametrize(("after", "kind"), [(1, "matching"), (4, "matching"), (4, "noised")])
def test_a_resumed_run_makes_none_and_ends_in_the_same_bits(world, tmp_path, calls, after, kind):
    whole = Run(world, tmp_path / "whole", kind=kind).go()
    each_step, rest = divmod(len(calls) - SAMPLING, STEPS)
    assert rest == 0 and each_step > 0
    run = Run(world, tmp_path / "run", kind=kind).kill(after=after)
    saved = {file: file.stat().st_mtime_ns for file in run.templates.iterdir()}
    calls.clear()
    run.resume()
    done = after - after % EVERY
    assert len(calls) == (STEPS - done) * each_step
    assert {file: file.stat().st_mtime_ns for file in run.templates.iterdir()} == saved
    assert same(end(run), end(whole))
    assert any(value.abs().max() > 0 for value in end(run)["guidance"].values())


def test_made_saved_or_read_the_classifier_is_the_same_to_the_bit(world, tmp_path, calls):
    experiment = Run(world, tmp_path / "run").experiment
    prior = build_prior(experiment)
    pictures = torch.rand(3, 3, 8, 8, generator=Generator().manual_seed(2))
    found, asked = [], []
    for folder in (None, tmp_path / "kept", tmp_path / "kept"):
        calls.clear()
        scene = build_scene(experiment, 0, prior, None)
        method = complete_stage(experiment, 0, prior, scene, folder=folder).guidance
        assert method.classes == (*CLASSES, "mirrored_side")
        found.append((method.judge.classifier.log_probabilities(pictures), method.state_dict()))
        asked.append(len(calls))
    assert asked == [SAMPLING, SAMPLING, 0]
    assert same(found[0], found[1]) and same(found[1], found[2])


def test_templates_of_ones_own_are_copied_and_no_longer_needed(world, tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    generator = Generator().manual_seed(5)
    levels = {}
    for name in ("up.JPG", "down.png"):
        random = torch.randint(256, (8, 8, 3), generator=generator).byte().numpy()
        Image.fromarray(random).save(own / name, format="PNG")
        levels[name.partition(".")[0]] = random
    whole = Run(world, tmp_path / "whole", templates=str(own)).go()
    run = Run(world, tmp_path / "run", templates=str(own)).kill(after=4)
    shutil.rmtree(own)
    run.resume()
    assert same(end(run), end(whole))
    assert sorted(file.name for file in run.templates.iterdir()) == ["down.png", "up.png"]
    for name, random in levels.items():
        assert np.array_equal(pixels(run.templates / f"{name}.png"), random)


def test_a_single_phrase_and_its_mirror_image_are_classes_enough(world, tmp_path):
    only = {"phrases": {"side": "side view"}}
    whole = Run(world, tmp_path / "whole", **only).go()
    run = Run(world, tmp_path / "run", **only).kill(after=1).resume()
    assert same(end(run), end(whole))


def test_the_usd_of_a_mix_has_a_place_of_its_own(world, tmp_path):
    run = Run(world, tmp_path / "run", in_mix=True).kill(after=1)
    kept = run.folder.path / "guidance" / "stage_0" / "usd" / "templates"
    assert len(list(kept.iterdir())) == 3


def test_a_run_that_is_killed_while_it_saves_them_leaves_no_half(world, tmp_path, monkeypatch):
    real, saved = templates.save_png, []

    def failing(path, image):
        if saved:
            raise KeyboardInterrupt
        saved.append(path)
        real(path, image)

    run = Run(world, tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(templates, "save_png", failing)
        with pytest.raises(KeyboardInterrupt):
            run.kill(after=1)
    assert saved and not run.templates.exists()
    assert same(end(run.go()), end(Run(world, tmp_path / "whole").go()))


def test_one_that_was_taken_away_is_named(world, tmp_path):
    run = Run(world, tmp_path / "run").kill(after=1)
    (run.templates / "side.png").unlink()
    with pytest.raises(ConfigError, match=r"the template '.*side.png' is gone"):
        run.resume()


@pytest.mark.parametrize("name", ["a/b", "..", ".front", "x" * 65, ""])
def test_a_class_that_cannot_be_a_files_name_is_refused(world, tmp_path, calls, name):
    phrases = {name: "front view", "back": "back view"}
    with pytest.raises(ConfigError, match="cannot be the name of a picture's file"):
        Run(world, tmp_path / "run", phrases=phrases).kill(after=1)
    assert calls == []


def test_a_folder_that_cannot_be_written_is_one_line(world, tmp_path):
    run = Run(world, tmp_path / "run")
    (run.folder.path / "guidance").write_text("in the way")
    with pytest.raises(RunFolderError, match="could not write"):
        run.kill(after=1)
