"""`score-distill reference`: what it writes, what it goes on with, and what it refuses."""

import json
import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Generator

import metrics_worlds
from metrics_worlds import rand, save
from sd_core import plugins as plugins_module
from sd_core.cli import main
from sd_core.locks import alone_in
from sd_core.plugins import load_plugins
from sd_core.priors.image_bank import ImageBankPrior
from sd_core.sampling import ddim_sample
from sd_metrics import reference_command
from sd_metrics.reference import Reference

VIEWS = ("front", "side", "back")
FEW = ("--with", "count=4", "--with", "steps=20")


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    """Two pictures of each view of a bear and of a fox, 8 x 8."""
    folder, captions = tmp_path_factory.mktemp("bank"), {}
    for seed, (toy, view, index) in enumerate(
        (toy, view, index) for toy in ("bear", "fox") for view in VIEWS for index in range(2)
    ):
        save(folder / f"{toy}-{view}{index}.png", rand(3, 8, 8, seed=seed))
        told = [f"a {toy}", f"a {toy}, {view} view", f"{view} view of a {toy}"]
        captions[f"{toy}-{view}{index}.png"] = [*told, f"A {toy.title()}!, {view} view"]
    (folder / "captions.json").write_text(json.dumps(captions), "utf-8")
    return folder


@pytest.fixture
def told(bank, tmp_path, monkeypatch):
    """The command's arguments; it finds what is built in, in a folder of its own."""
    load = partial(load_plugins, installed=False, extra=[metrics_worlds])
    monkeypatch.setattr(plugins_module, "load_plugins", load)
    monkeypatch.chdir(tmp_path)
    sets = ("--set", f"prior.folder={bank}", "--set", "run.threads=1")

    def arguments(*more, output="out", prompt="a bear", settings=FEW):
        out = () if output is None else ("--output", output)
        given = ("--prompt", prompt, "--prior", "image-bank", "--renderer", "affine", *sets)
        return ["reference", *given, *settings, *out, *more]

    return arguments


@pytest.fixture
def prompts():
    def write(*lines):
        Path("prompts.txt").write_text("\n".join(lines), "utf-8")
        return ("--with", "prompts=prompts.txt")

    return write


def refused(capsys, arguments):
    assert main(arguments) == 2
    _, err = capsys.readouterr()
    assert err.startswith("score-distill: ") and err.count("\n") == 1
    return err.removeprefix("score-distill: ").removesuffix("\n")


def read(path):
    return json.loads(Path(path).read_text("utf-8"))


def pixels(path):
    with Image.open(path) as file:
        return np.array(file.convert("RGB"))


def nearest(picture, bank):
    """The bank's picture that is the most like it, and how far it is."""
    known = {path.stem: pixels(path).astype(float) for path in bank.glob("*.png")}
    apart = {name: float(np.abs(picture - each).max()) for name, each in known.items()}
    name = min(apart, key=apart.get)
    return name, apart[name]


# what it writes


def test_it_writes_a_reference_of_the_plain_prompt(told, capsys):
    assert main(told()) == 0
    assert sorted(os.listdir("out")) == [".lock", "captions.json", "pictures", "recipe.json"]
    names = [f"pictures/a-bear/{index:02d}.png" for index in range(4)]
    assert read("out/captions.json") == dict.fromkeys(names, "a bear")
    reference = Reference.open(Path("out"))
    assert reference.names == tuple(names) and reference.pictures_of("a bear") == [0, 1, 2, 3]
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "go on with: score-distill evaluate RUN --metrics fid --set fid.reference=out"


def test_each_picture_is_of_the_prompt_seen_from_the_front_the_side_and_the_back_in_turn(
    told, bank
):
    assert main(told("--with", "count=6")) == 0
    for index in range(6):
        name, apart = nearest(pixels(f"out/pictures/a-bear/{index:02d}.png"), bank)
        assert name.startswith(f"bear-{VIEWS[index % 3]}") and apart < 20
    assert read("out/pictures/a-bear/made.json")["texts"][:4] == [
        "a bear, front view",
        "a bear, side view",
        "a bear, back view",
        "a bear, front view",
    ]


def test_the_views_have_the_words_of_the_prompt(told):
    words = ("--set", "prompt.views=prefix", "--set", "prompt.back_words=side view")
    assert main(told(*words)) == 0
    texts = read("out/pictures/a-bear/made.json")["texts"]
    assert texts[:3] == ["front view of a bear", "side view of a bear", "side view of a bear"]


def test_without_views_it_is_the_plain_prompt(told):
    assert main(told("--with", "views=false", "--set", "prompt.views=none")) == 0
    assert read("out/pictures/a-bear/made.json")["texts"] == ["a bear"] * 4


def test_pictures_are_ddims_with_guidance_away_from_the_negative(told, bank, monkeypatch):
    """By the sampler itself, from the noise of the prompt's own seed."""
    monkeypatch.setattr(reference_command, "_seed", lambda seed, prompt: 100 + seed)
    negative = "a fox, front view"
    more = ("--with", "scale=2.5", "--with", "views=false", "--set", f"prompt.negative={negative}")
    assert main(told(*more, "--seed", "5")) == 0
    captions = read(bank / "captions.json")
    images = np.stack([pixels(bank / name) for name in captions])
    prior = ImageBankPrior(
        torch.from_numpy(images).movedim(-1, 1).float() / 255, list(captions.values())
    )
    noise = torch.randn(4, 3, 8, 8, generator=Generator().manual_seed(105))
    latents = ddim_sample(prior, noise, ["a bear"] * 4, scale=2.5, steps=20, negative=negative)
    expected = (prior.decode(latents).clamp(0, 1) * 255).round().movedim(1, -1).numpy()
    for index in range(4):
        assert np.abs(pixels(f"out/pictures/a-bear/{index:02d}.png") - expected[index]).max() <= 1


def test_the_recipe_says_all_that_the_pictures_depend_on(told):
    assert main(told("--seed", "3", "--set", "prompt.negative=a fox")) == 0
    recipe = read("out/recipe.json")
    assert recipe["command"] == "score-distill reference"
    assert recipe["prior"]["name"] == "image-bank" and len(recipe["prior"]["sha256"]) == 16
    named = ("seed", "count", "scale", "steps", "negative", "sampler")
    assert [recipe[name] for name in named] == [3, 4, 7.5, 20, "a fox", "DDIM, eta 0"]
    assert recipe["texts"] == ["PROMPT, front view", "PROMPT, side view", "PROMPT, back view"]
    for made in (recipe["made_by"], read("out/pictures/a-bear/made.json")["made_by"]):
        assert made["versions"]["torch"] == torch.__version__ and made["date"].startswith("20")
    assert Reference.open(Path("out")).recipe()["recipe"] == recipe


def test_the_same_seed_makes_the_same_and_another_does_not(told):
    for output, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        assert main(told("--seed", seed, output=output)) == 0
    made = [Path(each, "pictures/a-bear/00.png").read_bytes() for each in "abc"]
    assert made[0] == made[1] != made[2]


def test_each_prompt_has_noise_of_its_own(told, prompts, monkeypatch):
    seen = []

    def noise_itself(prior, noise, prompts, **told):
        seen.append(noise)
        return noise

    monkeypatch.setattr(reference_command, "ddim_sample", noise_itself)
    assert main(told(*prompts("a bear", "a fox"))) == 0
    assert len(seen) == 2 and not torch.equal(*seen)


def test_several_prompts_come_from_a_file_in_the_place_of_the_one(told, prompts):
    assert main(told(*prompts("a fox", "", "# not this", "A Bear!"))) == 0
    folders = sorted(os.listdir("out/pictures"))
    assert len(folders) == 2 and folders[0].startswith("a-bear_") and folders[1] == "a-fox"
    assert set(read("out/captions.json").values()) == {"a fox", "A Bear!"}


def test_a_hundred_pictures_stay_in_order(told):
    assert main(told("--with", "count=101", "--with", "steps=1")) == 0
    names = list(read("out/captions.json"))
    assert names[0].endswith("/000.png") and names[100].endswith("/100.png")


# what it goes on with


def test_told_again_it_makes_only_the_prompts_that_are_not_there(told, prompts, capsys):
    assert main(told()) == 0
    before = {path: path.stat().st_mtime_ns for path in Path("out").rglob("*.png")}
    capsys.readouterr()
    assert main(told(*prompts("a bear", "a fox"))) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[:2] == ["a bear: is there already", "a fox: 4 pictures"]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert list(read("out/captions.json").values()) == ["a bear"] * 4 + ["a fox"] * 4


def test_a_prompts_pictures_do_not_depend_on_the_others(told, prompts):
    assert main(told(prompt="a fox", output="alone")) == 0
    assert main(told(*prompts("a bear", "a fox"))) == 0
    for index in range(4):
        name = f"pictures/a-fox/{index:02d}.png"
        assert Path("alone", name).read_bytes() == Path("out", name).read_bytes()


def test_after_a_crash_what_was_whole_is_kept_and_the_rest_is_made(
    told, prompts, monkeypatch, capsys
):
    both, true, calls = prompts("a bear", "a fox"), reference_command.save_png, []

    def crash(path, image):
        calls.append(path)
        if len(calls) == 6:  # within the second prompt
            raise KeyboardInterrupt
        true(path, image)

    with monkeypatch.context() as patch:
        patch.setattr(reference_command, "save_png", crash)
        with pytest.raises(KeyboardInterrupt):
            reference_command_of(told(*both))
    assert sorted(os.listdir("out")) == [".lock", "pictures", "recipe.json"]
    assert os.listdir("out/pictures") == ["a-bear"]
    for name in ("a-fox", "a-whale"):  # what a kill leaves
        Path(f"out/pictures/.{name}.partial").mkdir()
        Path(f"out/pictures/.{name}.partial/00.png").write_text("half")
    capsys.readouterr()
    assert main(told(*both)) == 0
    assert capsys.readouterr().out.splitlines()[:2] == [
        "a bear: is there already",
        "a fox: 4 pictures",
    ]
    assert main(told(*both, output="whole")) == 0
    assert read("out/captions.json") == read("whole/captions.json")
    for name in read("whole/captions.json"):
        assert Path("out", name).read_bytes() == Path("whole", name).read_bytes()


def reference_command_of(arguments):
    """The command as `main` runs it, which makes an exit code of an interruption."""
    if main(arguments) != 0:
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--seed", "1"), "the reference in out was begun with seed 0, not 1. Tell the same, or "),
        (("--with", "scale=2"), "the reference in out was begun with scale 7.5, not 2.0. Tell "),
        (("--with", "count=5"), "the reference in out was begun with count 4, not 5. Tell the "),
        (("--with", "views=false"), "the reference in out was begun with texts ['PROMPT, front"),
        (("--set", "prior.contrast=0.5"), "the reference in out was begun with prior {"),
    ],
    ids=str,
)
def test_other_options_are_not_mixed_into_one_reference(told, capsys, more, message):
    assert main(told()) == 0
    before = {path: path.read_bytes() for path in Path("out").rglob("*.*")}
    capsys.readouterr()
    assert refused(capsys, told(*more)).startswith(message)
    assert {path: path.read_bytes() for path in Path("out").rglob("*.*")} == before


# what it refuses


@pytest.mark.parametrize(
    ("more", "output", "message"),
    [
        ((), None, "there is no folder for the reference. Say where: --output FOLDER."),
        ((), "full", "full exists and is neither an empty folder nor one that score-distill "),
        ((), "full/recipe.json", "full/recipe.json exists and is neither an empty folder nor "),
        (("--set", "prompt.views=none"), "out", "reference.views is true, but prompt.views is "),
        (("--with", "steps=1001"), "out", "reference.steps is 1001, but the prior has 1000 of "),
        (("--with", "count=0"), "out", "reference.count is "),
        (("--with", "cuont=3"), "out", "unknown key 'cuont' in reference. Known keys: count, "),
        (("--set", "prompt.negative=ugly"), "out", "this prior knows no prompt 'ugly'. "),
        (("--prompt", "a whale"), "out", "this prior knows no prompt 'a whale, front view'. "),
        (("--with", "prompts=nowhere.txt"), "out", "cannot read the prompts in nowhere.txt: "),
    ],
    ids=str,
)
def test_a_mistake_is_one_line_and_leaves_all_as_it_was(told, capsys, more, output, message):
    Path("full").mkdir()
    Path("full/recipe.json").write_text('{"mine": 1}')
    assert refused(capsys, told(*more, output=output)).startswith(message)
    assert os.listdir("full") == ["recipe.json"] and not Path("out").exists()


def test_two_at_once_are_refused_and_nothing_of_the_first_is_touched(told, capsys):
    Path("out").mkdir()
    with alone_in(Path("out")):
        assert refused(capsys, told()).startswith("another process is running in out. Wait for it")
    assert os.listdir("out") == [".lock"]
    assert main(told()) == 0  # a lock that was left is no reference


def test_a_prior_without_colours_is_refused(told, capsys, bank, monkeypatch):
    monkeypatch.setattr(ImageBankPrior, "decode", lambda self, latents: latents[:, :2])
    assert refused(capsys, told()).startswith("the prior makes pictures of 2 channels, expected ")
    assert not Path("out/captions.json").exists() and not Path("out/pictures").exists()
