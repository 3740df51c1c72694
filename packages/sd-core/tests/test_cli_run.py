"""`run` and `resume`, as a user calls them."""

import json
import os
from pathlib import Path

import imageio.v2 as imageio
import numpy as np
import pytest
import torch
from PIL import Image

from sd_core.run_folder import fingerprint
from small_runs import experiment_file, log_lines, newest_state, same, scene

pytestmark = pytest.mark.usefixtures("here")
LINE = "score-distill: "
QUICK = ("--set", "run.threads=1", "--set", "cameras.batch=4", "--set", "steps=6")
RUN = ("run", "--prompt", "two gaussians", *QUICK)


def test_a_prompt_and_a_method_are_enough_for_a_whole_run_folder(cli):
    out = cli(*RUN, "--guidance", "vsd", "--set", "run.preview_every=3", "--output", "a")
    assert out.endswith("done; the pictures are in a/final\n")
    assert [line["step"] for line in log_lines(Path("a"))] == list(range(6))
    assert sorted(os.listdir("a/previews")) == [
        "stage_0_step_000003.png",
        "stage_0_step_000006.png",
    ]
    assert os.listdir("a/checkpoints") == ["stage_0_step_000006"]
    assert os.listdir("a/scenes/stage_0") == ["stage_0_step_000006"]
    with Image.open("a/final/contact_sheet.png") as sheet:
        assert (sheet.size, sheet.mode) == ((256, 256), "RGB")
    assert not Path("a/final/turntable.mp4").exists()  # the scene has but one picture


def test_made_by_says_what_made_it(cli):
    arguments = [*RUN, "--guidance", "vsd", "--output", "a"]
    cli(*arguments)
    made_by = json.loads(Path("a/made_by.json").read_text())
    config = json.loads(Path("a/config.json").read_text())
    assert set(made_by) == {
        "started",
        "command",
        "fingerprint",
        "plugins",
        "prior",
        "versions",
        "machine",
    }
    assert made_by["command"] == arguments
    assert made_by["fingerprint"] == fingerprint(config["experiment"])
    assert list(made_by["plugins"]) == ["prior gaussian-mixture", "guidance vsd", "renderer affine"]
    assert all(source.startswith("sd-core ") for source in made_by["plugins"].values())
    assert made_by["prior"] == {"class": "GaussianMixturePrior"}
    assert made_by["versions"]["torch"] == torch.__version__
    assert made_by["machine"]["threads"] == 1
    assert torch.cuda.is_available() or made_by["machine"]["device"] == "cpu"


def test_made_by_and_config_tell_what_a_mix_is_made_of(cli):
    cli(*RUN, "--guidance", "mix", "--set", "guidance.source=vsd", "--output", "a")
    made_by = json.loads(Path("a/made_by.json").read_text())
    told = json.loads(Path("a/config.json").read_text())["experiment"]
    assert list(made_by["plugins"]) == [
        "prior gaussian-mixture",
        "guidance mix",
        "guidance sds",
        "guidance vsd",
        "renderer affine",
    ]
    assert made_by["fingerprint"] == fingerprint(told)
    assert told["stages"][0]["guidance"]["options"]["vsd"]["estimator"]["camera_dropout"] == 0.1


def test_the_config_of_a_mix_repeats_it_to_the_bit(cli):
    mix = ("--guidance", "mix", "--set", "guidance.source=vsd")
    cli(*RUN, *mix, "--set", "guidance.options.sds.timesteps.low=0.1", "--output", "a")
    cli("run", "a/config.json", "--output", "b")
    assert same(newest_state(Path("a")), newest_state(Path("b")))
    assert Path("a/config.json").read_bytes() == Path("b/config.json").read_bytes()


def test_bare_names_choose_plugins(cli):
    path = experiment_file(
        'prompt = "two gaussians"\nprior = "gaussian-mixture"\n'
        '[[stages]]\nguidance = "vsd"\nrenderer = "affine"\n'
    )
    cli("run", path, *QUICK, "--output", "a")
    cli(*RUN, "--set", "guidance=vsd", "--output", "b")
    assert Path("a/config.json").read_bytes() == Path("b/config.json").read_bytes()


def test_the_config_of_a_run_repeats_it_to_the_bit(cli):
    cli(*RUN, "--guidance", "vsd", "--seed", "3", "--output", "a")
    cli("run", "a/config.json", "--output", "b")
    assert same(newest_state(Path("a")), newest_state(Path("b")))
    assert log_lines(Path("a")) == log_lines(Path("b"))
    assert Path("a/config.json").read_bytes() == Path("b/config.json").read_bytes()


def test_one_seed_gives_the_same_bits_and_another_seed_other_bits(cli):
    for folder, seed in [("a", 7), ("b", 7), ("c", 8)]:
        cli(*RUN, "--seed", seed, "--output", folder)
    a, b, c = (scene(Path(folder)) for folder in "abc")
    assert same(a, b)
    assert not same(a, c)


def test_short_options_win_over_the_file_and_set_over_both(cli):
    path = experiment_file(
        'prompt = {text = "x", negative = "y"}\nseed = 1\n'
        '[[stages]]\nsteps = 9\nguidance = {name = "sds", scale = 3}\n'
    )
    cli("run", path, "--prompt", "z", "--seed", "2", *QUICK, "--set", "seed=5", "--output", "a")
    told = json.loads(Path("a/config.json").read_text())["experiment"]
    assert (told["prompt"]["text"], told["prompt"]["negative"]) == ("z", "y")
    assert (told["seed"], told["stages"][0]["steps"]) == (5, 6)
    assert told["stages"][0]["guidance"]["scale"] == 3


def test_an_option_of_the_default_method_needs_no_name(cli):
    cli(*RUN, "--set", "guidance.scale=3", "--set", "prior.memory=5", "--output", "a")
    told = json.loads(Path("a/config.json").read_text())["experiment"]
    assert told["stages"][0]["guidance"]["name"] == "sds"
    assert told["prior"]["memory"] == 5


@pytest.fixture
def picture_bank(here):
    """Two pictures of 8 pixels, as an image bank."""
    bank = here / "bank"
    bank.mkdir()
    for name, level in [("a.png", 40), ("b.png", 200)]:
        Image.fromarray(np.full((8, 8, 3), level, np.uint8)).save(bank / name)
    (bank / "captions.json").write_text('{"a.png": ["dark"], "b.png": ["bright"]}')
    return bank


# imageio's reader leaves the pipes of its ffmpeg to the garbage collector.
@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
def test_a_scene_with_several_pictures_gets_a_turntable(cli, picture_bank):
    bank = ("--prior", "image-bank", "--set", f"prior.folder={picture_bank}")
    frames = ("--set", "run.turntable_frames=6", "--set", "run.preview_every=6")
    asked = ("run", "--prompt", "bright", *QUICK, "--renderer", "tiles", *bank, *frames)
    cli(*asked, "--output", "a")
    with Image.open("a/final/contact_sheet.png") as sheet:
        assert sheet.size[0] == 4 * 128 and sheet.size[1] % 128 == 0
    with Image.open("a/previews/stage_0_step_000006.png") as preview:
        assert preview.size == (4 * 128, 128)
    with imageio.get_reader("a/final/turntable.mp4") as video:
        assert [frame.shape for frame in video] == [(256, 256, 3)] * 6
    assert not [path for path in Path("a").rglob("*partial*")]


def test_no_turntable_where_none_is_asked_for(cli, picture_bank):
    bank = ("--prior", "image-bank", "--set", f"prior.folder={picture_bank}")
    asked = ("run", "--prompt", "dark", *QUICK, "--renderer", "tiles", *bank)
    cli(*asked, "--set", "run.turntable_frames=0", "--output", "a")
    assert os.listdir("a/final") == ["contact_sheet.png"]


# where a run goes


@pytest.mark.parametrize(
    "prompt", ["../../etc/x", "a/b\\c", "/", "..", "C:\\x", "con", "x" * 500, "ein Bär", "~", "🐻"]
)
def test_any_prompt_makes_one_safe_folder_inside_runs(cli, here, prompt):
    cli("run", "--prompt", prompt, *QUICK)
    assert os.listdir(here) == ["runs"]
    (folder,) = os.listdir(here / "runs")
    assert folder.endswith("-sds-0")
    assert set(folder) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_")
    assert len(folder) < 100


def test_a_mistake_in_the_options_leaves_nothing_behind(refused, here):
    for wrong in (
        ("--guidance", "vdd"),
        ("--set", "guidance.scale=-1"),
        ("--set", "run.device=meta"),
        ("--guidance", "mix", "--set", "guidance.source=nope"),
        ("--renderer", "tiles", "--guidance", "mix", "--set", "guidance.options={vsd={}}"),
        ("--guidance", "no-method"),
    ):
        refused(*RUN, *wrong)
        assert not list((here / "runs").glob("*"))


def test_a_mistake_that_shows_only_when_stages_are_built_leaves_the_users_own_folder(refused):
    os.mkdir("mine")
    refused(*RUN, "--guidance", "no-method", "--output", "mine")
    assert os.listdir("mine") == []


def test_a_run_that_has_begun_is_kept_when_it_fails(refused):
    refused(*RUN, "--guidance", "sick", "--output", "a")
    assert len(log_lines(Path("a"))) == 3


def test_a_folder_with_a_run_is_left_alone(cli, refused):
    cli(*RUN)
    before = Path("runs/two-gaussians-sds-0/log.jsonl").read_bytes()
    assert refused(*RUN) == (
        "runs/two-gaussians-sds-0 already holds a run. Continue it with: score-distill resume "
        "runs/two-gaussians-sds-0, or choose another folder with --output."
    )
    assert Path("runs/two-gaussians-sds-0/log.jsonl").read_bytes() == before


def test_a_folder_with_other_files_is_left_alone(refused, here):
    (here / "thesis").mkdir()
    (here / "thesis" / "thesis.tex").touch()
    message = "{} exists and is not an empty folder. Choose another with --output."
    assert refused(*RUN, "--output", "thesis") == message.format("thesis")
    assert refused(*RUN, "--output", "thesis/thesis.tex") == message.format("thesis/thesis.tex")
    assert os.listdir("thesis") == ["thesis.tex"]


def test_a_folder_that_cannot_be_made_is_named(refused, here):
    (here / "file").touch()
    assert refused(*RUN, "--output", "file/run") == "could not write file/run: Not a directory."
    assert (
        refused(*RUN, "--output", "x" * 300) == f"could not write {'x' * 300}: File name too long."
    )


# what a user can get wrong


def test_a_finished_run_is_left_as_it_is(cli):
    cli(*RUN, "--output", "a")
    before = {path: path.stat().st_mtime_ns for path in Path("a").rglob("*")}
    assert cli("resume", "a") == "a is finished; its pictures are in a/final\n"
    assert {path: path.stat().st_mtime_ns for path in Path("a").rglob("*")} == before


def test_a_damaged_checkpoint_is_one_line_and_previous_goes_round_it(cli, refused):
    cli(*RUN, "--set", "run.checkpoint_every=4", "--output", "a")
    whole = newest_state(Path("a"))
    newest = Path("a/checkpoints/stage_0_step_000006")
    file = newest / "state.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    assert refused("resume", "a") == (
        f"checkpoint {newest} is damaged: the checksum of state.safetensors does not match. "
        "Resume from the one before it with --previous."
    )
    cli("resume", "a", "--previous")
    assert same(newest_state(Path("a")), whole)


def test_previous_without_one_before_is_one_line(cli, refused):
    cli(*RUN, "--output", "a")
    assert refused("resume", "a", "--previous") == (
        "a has no checkpoint before its newest one. Start again in another folder: "
        "score-distill run a/config.json --output NEW."
    )


def test_a_changed_experiment_is_not_resumed(cli, refused):
    cli(*RUN, "--output", "a")
    config = Path("a/config.json")
    config.write_text(config.read_text().replace('"seed": 0', '"seed": 1'))
    message = refused("resume", "a")
    assert " belongs to another experiment (" in message
    assert "If config.json was edited by hand, undo that, or run the edited file " in message


def test_the_command_that_a_sick_run_is_told_can_be_followed(refused):
    told = refused(*RUN, "--guidance", "sick", "--output", "a")
    words = told.partition("score-distill ")[2].removesuffix(".").replace("NEW", "b").split()
    assert words == [
        *("run", "a/config.json", "--set", "stages.0.optimiser.learning_rate=0.005"),
        *("--output", "b"),
    ]
    assert refused(*words).endswith(
        "For example: score-distill run b/config.json "
        "--set stages.0.optimiser.learning_rate=0.0025 --output NEW."
    )


@pytest.mark.parametrize(
    ("told", "shown", "quoted"),
    [
        ("a red bear", "'a red bear'", "'a red bear'"),
        ("bear", "'bear'", "bear"),
        ("a\nbear's 1.5 toes", '"a bear\'s 1.5 toes"', "'a bear'\"'\"'s 1.5 toes'"),
        ("x" * 300, f"'{'x' * 300}'", "x" * 300),
    ],
)
def test_a_prompt_that_lacks_its_flag_is_told_so(refused, told, shown, quoted):
    assert refused("run", told) == (
        f"there is no experiment file {shown}. Give a .toml or .json file, or say what to make: "
        f"score-distill run --prompt {quoted}."
    )


def test_a_file_of_another_ending_and_a_file_beside_a_prompt_are_no_prompts(cli, refused):
    Path("bear.txt").write_text('prompt = "a bear"\n')
    cli("run", "bear.txt", *QUICK, "--output", "a")
    assert refused("run", "bear", "--prompt", "a bear") == (
        "cannot read the experiment file bear: [Errno 2] No such file or directory: 'bear'."
    )
