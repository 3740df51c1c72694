import errno
import io
import json
import os
import random
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import imageio.v2 as imageio
import numpy as np
import pytest
import torch
from PIL import Image

from mini_schema import mistakes
from sd_core import plugins as plugins_module
from sd_core.checkpoint import list_checkpoints, load_checkpoint
from sd_core.cli import main
from sd_core.commands.describe import TABLES
from sd_core.config import Options
from sd_core.experiment import Experiment
from small_runs import load_with_fakes, log_lines, newest_state, plugins, same, scene

LINE = "score-distill: "
QUICK = ("--set", "run.threads=1", "--set", "cameras.batch=4", "--set", "steps=6")
RUN = ("run", "--prompt", "two gaussians", *QUICK)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Each test works in a folder of its own, with the built-in plugins and the fake one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plugins_module, "load_plugins", load_with_fakes)
    return tmp_path


@pytest.fixture
def cli(capsys):
    """Runs a command that works and gives its output."""

    def call(*arguments) -> str:
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert (code, err) == (0, "")
        return out

    return call


@pytest.fixture
def refused(capsys):
    """Runs a command that is refused, and gives its one line."""

    def call(*arguments) -> str:
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert code == 2
        assert err.startswith(LINE) and err.endswith("\n") and err.count("\n") == 1
        assert "Traceback" not in out + err
        return err.removeprefix(LINE).removesuffix("\n")

    return call


def experiment_file(text) -> str:
    Path("experiment.toml").write_text(text)
    return "experiment.toml"


# a run from a prompt


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
    assert made_by["fingerprint"] == Experiment(config["experiment"], plugins()).fingerprint()
    assert list(made_by["plugins"]) == ["prior gaussian-mixture", "guidance vsd", "renderer affine"]
    assert all(source.startswith("sd-core ") for source in made_by["plugins"].values())
    assert made_by["prior"] == {"class": "GaussianMixturePrior"}
    assert made_by["versions"]["torch"] == torch.__version__
    assert made_by["machine"]["threads"] == 1
    assert torch.cuda.is_available() or made_by["machine"]["device"] == "cpu"


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--guidance", "vdd"),
            "no guidance named 'vdd'. Installed: mix, no-method, no-options, sds, sick, vsd. "
            "Did you mean 'vsd'?",
        ),
        (
            ("--renderer", "afine"),
            "no renderer named 'afine'. Installed: affine, tiles. Did you mean 'affine'?",
        ),
        (
            ("--prior", "image-bnk"),
            "no prior named 'image-bnk'. Installed: gaussian-mixture, image-bank. "
            "Did you mean 'image-bank'?",
        ),
        (
            ("--set", "guidance.scael=1"),
            "unknown key 'scael' in stages.0.guidance. Known keys: scale, timesteps, weight. "
            "Did you mean 'scale'?",
        ),
        (
            ("--set", "run.device_name=cpu"),
            "unknown key 'device_name' in run. Known keys: checkpoint_every, device, "
            "preview_every, tensorboard, threads, turntable_frames. Did you mean 'device'?",
        ),
        (
            ("--set", "sed=1"),
            "unknown key 'sed' in the experiment. Known keys: prior, prompt, run, seed, stages. "
            "Did you mean 'seed'?",
        ),
        (
            ("--set", "steps=many"),
            "stages.0.steps is 'many', but it should be a valid integer, unable to parse string "
            "as an integer.",
        ),
        (
            ("--seed", "x"),
            "seed is 'x', but it should be a valid integer, unable to parse string as an integer.",
        ),
        (("--seed", "-1"), "seed is -1, but it should be greater than or equal to 0."),
        (
            ("--set", "guidance.scale=-1"),
            "stages.0.guidance.scale is -1, but it should be greater than or equal to 0.",
        ),
        (
            ("--set", "guidance.scale=nan"),
            "stages.0.guidance.scale is nan, but it should be a finite number.",
        ),
        (
            ("--set", "guidance.timesteps.low=0.99"),
            "stages.0.guidance.timesteps: low = 0.99 must lie below high = 0.98.",
        ),
        (("--set", "guidance=vsd"), "stages.0.guidance is 'vsd', but it should be a table."),
        (("--set", "stages.0=5"), "stages.0 is 5, but it should be a table."),
        (("--set", "stages=[]"), "stages is [], but it should have at least 1 item "),
        (("--set", "run.device="), "run.device is '', but it should have at least 1 character."),
        (("--set", "foo"), "--set foo is not an assignment. Write --set stages.0.guidance."),
        (
            ("--set", "stages.3.steps=4"),
            "--set stages.3.steps=4: there is no stages.3. Give a number from 0 to 0.",
        ),
        (("--set", "run.device=tpu"), "run.device is 'tpu', but it cannot be used ("),
        (("--set", "run.device=meta"), "run.device is 'meta', but it cannot be used ("),
        (("--prompt", ""), "prompt.text: the prompt is empty: say what to make, for example "),
        (("--prompt", "  "), "prompt.text: the prompt is empty: say what to make, for example "),
        (
            ("--prompt", "a\nbear"),
            "prompt.text: the text holds a control character (U+000A) after 'a': write it on one ",
        ),
        (
            ("--prompt", "a\x1b[31mbear"),
            "prompt.text: the text holds a control character (U+001B) after 'a': write it on one ",
        ),
        (
            ("--guidance", "mix", "--set", "guidance.target=usd"),
            "no guidance named 'usd'. Installed: mix, no-method, no-options, sds, sick, vsd. ",
        ),
        (
            ("--prior", "image-bank"),
            "prior.folder is missing. Add it: it has no default.",
        ),
        (
            ("--prior", "image-bank", "--set", "prior.folder=nowhere"),
            "prior.folder is 'nowhere', but it has no captions.json. ",
        ),
        (
            ("--set", "prior.components=[{mean=[0,0],covariance=[[1,0],[0,1]],prompts=['bear']}]"),
            "this prior knows no prompt 'two gaussians, ",
        ),
    ],
    ids=str,
)
def test_a_mistake_on_the_command_line_is_one_line(refused, arguments, message):
    assert refused(*RUN, *arguments).startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prompt = \n", "experiment.toml is not valid TOML: Invalid value (at line 1, column 10)."),
        ("seed = 1\n", 'there is no prompt. Say what to make: --prompt "a red bear".'),
        ("prompt = 5\n", "prompt is 5, but it should be a table."),
        (
            'prompt = "x"\nprior = "image-bank"\n',
            "prior is 'image-bank', but it should be a table.",
        ),
        (
            'prompt = "x"\n[[stage]]\n',
            "unknown key 'stage' in the experiment. Known keys: prior, prompt, run, seed, stages. "
            "Did you mean 'stages'?",
        ),
        (
            'prompt = "x"\n[[stages]]\n[[stages]]\nstep = 3\n',
            "unknown key 'step' in stages.1. Known keys: cameras, guidance, optimiser, renderer, "
            "start_from, steps. Did you mean 'steps'?",
        ),
        (
            'prompt = "x"\n[[stages]]\ncameras = {elevation_deg = [40, -10]}\n',
            "stages.0.cameras.elevation_deg: the range begins at 40 and ends at -10: ",
        ),
    ],
    ids=str,
)
def test_a_mistake_in_an_experiment_file_is_one_line(refused, text, message):
    assert refused("run", experiment_file(text)).startswith(message)


def test_a_missing_experiment_file_is_one_line(refused):
    assert refused("run", "none.toml") == (
        "cannot read the experiment file none.toml: [Errno 2] No such file or directory: "
        "'none.toml'."
    )


def test_nothing_to_make_is_one_line(refused):
    assert refused("run") == 'there is no prompt. Say what to make: --prompt "a red bear".'


@pytest.mark.parametrize("folder", ["none", "empty", "x" * 300])
def test_resuming_what_is_no_run_is_one_line(refused, here, folder):
    (here / "empty").mkdir()
    message = f"{folder} is not a run folder: it has no config.json."
    assert refused("resume", folder) == message


@pytest.mark.parametrize("arguments", [(), ("frobnicate",), ("run", "--frobnicate"), ("resume",)])
def test_an_unknown_command_or_flag_exits_with_2(capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("usage: score-distill")


def test_a_gradient_that_is_not_finite_names_method_step_and_time(refused):
    sick = ("--guidance", "sick", "--set", "guidance.at_step=3")
    assert refused(*RUN, *sick, "--set", "run.checkpoint_every=1", "--output", "a") == (
        "guidance 'sick' gave a non-finite gradient at step 3 (t = 501, 2 of 4 samples). "
        "Try a smaller learning rate or guidance scale, or run the prior in float32."
    )
    assert os.listdir("a/final") == []
    assert sorted(os.listdir("a/checkpoints")) == ["stage_0_step_000002", "stage_0_step_000003"]
    assert all(tensor.isfinite().all() for tensor in scene(Path("a")).values())


# a full disk


@pytest.mark.parametrize("what", ["checkpoint", "log", "preview"])
def test_a_full_disk_is_one_line_and_the_run_can_be_resumed(cli, refused, monkeypatch, what):
    every = ("--set", "run.checkpoint_every=2", "--set", "run.preview_every=5")
    cli(*RUN, *every, "--output", "whole")

    def full(path):
        return Path("a/checkpoints/stage_0_step_000004").exists() and what in (path, "checkpoint")

    def patched(real, kind):
        def write(first, *args, **options):
            if full("log" if getattr(first, "name", "") == "log.jsonl" else kind):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(first, *args, **options)

        return write

    victim = {
        "checkpoint": "checkpoints/stage_0_step_000006",
        "log": "log.jsonl",
        "preview": "previews/stage_0_step_000005.png",
    }[what]
    with monkeypatch.context() as patch:
        if what == "checkpoint":
            patch.setattr(Path, "write_bytes", patched(Path.write_bytes, ""))
        elif what == "log":
            patch.setattr(Path, "open", patched(Path.open, ""))
        else:
            patch.setattr(Image.Image, "save", patched(Image.Image.save, "preview"))
        assert refused(*RUN, *every, "--output", "a") == (
            f"the disk is full: could not write a/{victim}. The last checkpoint is whole: free "
            "some space and resume the run."
        )
    cli("resume", "a")
    assert same(newest_state(Path("a")), newest_state(Path("whole")))
    assert log_lines(Path("a")) == log_lines(Path("whole"))


# resume


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
    assert " belongs to another experiment (" in refused("resume", "a")


# in a process of its own


SCRIPT = "import sys; from sd_core.cli import main; sys.exit(main())"


def process(*arguments) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def wait_for_lines(running: subprocess.Popen, log: Path, count: int) -> None:
    """Until the log has that many lines, watched as it grows."""
    while not log.is_file() or log.read_bytes().count(b"\n") < count:
        with suppress(subprocess.TimeoutExpired):
            running.wait(timeout=1e-3)
            pytest.fail(f"it ended before its time: {running.communicate()}")


KILLED = """
prompt = "two gaussians"
[run]
threads = 1
checkpoint_every = 7
preview_every = 50
[[stages]]
steps = 150
guidance = {name = "vsd"}
cameras = {batch = 4}
[[stages]]
steps = 150
guidance = {name = "mix", source = "vsd"}
"""


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    (folder / "experiment.toml").write_text(KILLED)
    assert main(["run", str(folder / "experiment.toml"), "--output", str(folder / "run")]) == 0
    return folder / "run"


@pytest.mark.parametrize("seed", range(3))
def test_a_run_that_was_killed_resumes_to_the_same_bits(cli, uninterrupted, seed):
    moment = random.Random(seed).randint(1, 290)
    running = process("run", experiment_file(KILLED), "--output", "a")
    wait_for_lines(running, Path("a/log.jsonl"), moment)
    running.kill()
    running.communicate()
    assert running.returncode == -signal.SIGKILL
    cli("resume", "a")
    assert same(newest_state(Path("a")), newest_state(uninterrupted))
    assert log_lines(Path("a")) == log_lines(uninterrupted)
    for stage in (0, 1):
        scenes = [path / "scenes" / f"stage_{stage}" for path in (Path("a"), uninterrupted)]
        tensors = [list_checkpoints(path)[-1] / "state.safetensors" for path in scenes]
        assert tensors[0].read_bytes() == tensors[1].read_bytes()
    sheet = "final/contact_sheet.png"
    assert Path("a", sheet).read_bytes() == (uninterrupted / sheet).read_bytes()


def test_ctrl_c_finishes_the_step_saves_and_says_how_to_go_on():
    endless = KILLED.replace("steps = 150", "steps = 1000000").replace("= 7", "= 1000000")
    running = process("run", experiment_file(endless), "--output", "a")
    wait_for_lines(running, Path("a/log.jsonl"), 5)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate()
    assert (running.returncode, err) == (130, "")
    assert out.endswith("stopped and saved; go on with: score-distill resume a\n")
    (checkpoint,) = list_checkpoints(Path("a/checkpoints"))
    config = json.loads(Path("a/config.json").read_text())["experiment"]
    fingerprint = Experiment(config, plugins()).fingerprint()
    label, _ = load_checkpoint(checkpoint, experiment=fingerprint)
    assert label.steps_done == len(log_lines(Path("a")))


def test_the_command_line_alone_loads_neither_torch_nor_pydantic():
    code = (
        "import sys, sd_core.cli; sd_core.cli._parser().format_help();"
        "print([name for name in ('torch', 'pydantic', 'numpy', 'rich') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_listing_plugins_loads_neither_torch_nor_pydantic():
    code = (
        "import sys; from sd_core.cli import main; main(['plugins']);"
        "print([name for name in ('torch', 'pydantic', 'numpy', 'rich') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")


@pytest.mark.parametrize("unbuffered", [False, True])
def test_a_reader_that_has_had_enough_is_no_noise(unbuffered):
    flags = ["-u"] if unbuffered else []
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, *flags, "-c", SCRIPT, "plugins"],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


# plugins, describe, schema


def test_plugins_lists_everything_with_its_source(cli):
    lines = cli("plugins").splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["guidance", "mix"],
        ["guidance", "no-method"],
        ["guidance", "no-options"],
        ["guidance", "sds"],
        ["guidance", "sick"],
        ["guidance", "vsd"],
        ["renderer", "affine"],
        ["renderer", "tiles"],
        ["prior", "gaussian-mixture"],
        ["prior", "image-bank"],
    ]
    assert lines[1].endswith("(fake_plugin)")


def every_option(kind: type[Options], prefix="") -> list[str]:
    """The dotted names of all options, nested tables included."""
    names = []
    for name, field in kind.model_fields.items():
        default = field.get_default(call_default_factory=True)
        names.append(prefix + name)
        if isinstance(default, Options):
            names += every_option(type(default), f"{prefix}{name}.")
    return names


def described(out) -> list[str]:
    """The options that a description names."""
    heads = [line for line in out.splitlines() if line[:2] == "  " and line[2:3].strip()]
    return [head.split()[0].rstrip(":") for head in heads]


@pytest.mark.parametrize("table", TABLES)
def test_describe_shows_every_option_of_a_table(cli, table):
    out = cli("describe", table)
    assert out.startswith(f"[{table}]\n")
    assert described(out) == every_option(TABLES[table])
    assert "PydanticUndefined" not in out


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("guidance", "sds"),
        ("guidance", "vsd"),
        ("guidance", "mix"),
        ("guidance", "sick"),
        ("renderer", "affine"),
        ("renderer", "tiles"),
        ("prior", "gaussian-mixture"),
        ("prior", "image-bank"),
    ],
)
def test_describe_shows_every_option_of_a_plugin(cli, kind, name):
    entry = plugins().find(kind, name)
    out = cli("describe", kind, name)
    assert out.startswith(f"{kind} {name} ({plugins().source(kind, name)}): {entry.summary}\n")
    assert entry.reference in out
    assert described(out) == every_option(entry.load_config())
    for field in entry.load_config().model_fields.values():
        assert field.description in out


def test_describe_shows_symbol_default_bounds_and_choices(cli):
    out = cli("describe", "guidance", "vsd")
    assert "\n  scale  (s)  default 7.5, ≥ 0\n      Classifier-free guidance" in out
    assert "\n  timesteps.low  default 0.02, ≥ 0, < 1\n" in out
    assert "  weight  (w(t))  default 'sigma-squared', one of sigma-squared, uniform, " in out
    assert "\n  folder  default none, must be given\n" in cli("describe", "prior", "image-bank")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("guidance",),
            "describe guidance needs a name, one of: mix, no-method, no-options, sds, sick, vsd.",
        ),
        (("metric",), "describe metric needs a name, one of: none installed."),
        (("prior", "image"), "no prior named 'image'. Installed: gaussian-mixture, image-bank. "),
        (
            ("camras",),
            "nothing called 'camras' to describe. Known: guidance, metric, prior, renderer, "
            "experiment, stage, prompt, cameras, optimiser, run, timesteps, estimator. "
            "Did you mean 'cameras'?",
        ),
        (("run", "x"), "run is one table, without names. Write: describe run."),
        (
            ("guidance", "no-options"),
            "guidance 'no-options': its config fake_plugin:Sick is not a subclass of "
            "sd_core.config.Options. Tell its author.",
        ),
    ],
    ids=str,
)
def test_describe_says_what_there_is(refused, arguments, message):
    assert refused("describe", *arguments).startswith(message)


@pytest.fixture
def schema(cli, monkeypatch):
    monkeypatch.setattr(plugins_module, "load_plugins", plugins_module_without_fakes)
    return json.loads(cli("schema"))


def plugins_module_without_fakes(**options):
    return load_with_fakes(extra=[], **{key: options[key] for key in options if key != "extra"})


def test_the_schema_refers_only_to_what_it_defines(schema):
    def references(node):
        if isinstance(node, dict):
            if "$ref" in node:
                yield node["$ref"]
            node = list(node.values())
        if isinstance(node, list):
            for each in node:
                yield from references(each)

    found = set(references(schema))
    assert found
    assert {name.removeprefix("#/$defs/") for name in found} <= set(schema["$defs"])


@pytest.mark.parametrize("method", ["sds", "vsd", "mix"])
def test_the_schema_accepts_what_a_run_resolves_to(schema, method):
    table = {
        "prompt": "x",
        "stages": [{"guidance": {"name": method}}, {"start_from": "scratch"}, {}],
    }
    resolved = Experiment(table, plugins()).resolved()
    assert mistakes(resolved, schema, schema) == []
    assert mistakes({"prompt": "x"}, schema, schema) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"prompt": ""},
        {"prompt": 5},
        {"prompt": "x", "sed": 1},
        {"prompt": "x", "seed": -1},
        {"prompt": "x", "stages": []},
        {"prompt": "x", "stages": [{"steps": 0}]},
        {"prompt": "x", "stages": [{"guidance": {"name": "vdd"}}]},
        {"prompt": "x", "stages": [{"guidance": {"name": "vsd", "scael": 1}}]},
        {"prompt": "x", "stages": [{"guidance": {"name": "vsd", "scale": -1}}]},
        {"prompt": "x", "stages": [{"guidance": {"name": "vsd", "timesteps": {"low": 1}}}]},
        {"prompt": "x", "stages": [{"cameras": {"batch": 0}}]},
        {"prompt": "x", "stages": [{"optimiser": {"betas": [0.9]}}]},
        {"prompt": "x", "prior": {"name": "image-bank"}},
    ],
    ids=str,
)
def test_the_schema_refuses_what_the_options_refuse(schema, wrong):
    assert mistakes(wrong, schema, schema)


# progress


def test_a_terminal_gets_a_bar(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    assert main([*RUN, "--output", "a"]) == 0
    assert "6/6" in terminal.getvalue()
    assert "done; the pictures are in a/final" in terminal.getvalue()


def test_quiet_prints_plain_lines_with_the_first_and_the_last_step(cli):
    first, *_, last, done = cli(*RUN, "--quiet", "--output", "a").splitlines()
    assert first.startswith("stage 0 step 1/6 ")
    assert last.startswith("stage 0 step 6/6 ") and " 0 s left |g| " in last
    assert done == "done; the pictures are in a/final"
