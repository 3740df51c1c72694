"""Every mistake on the command line is one line and exit code 2."""

import errno
import os
from pathlib import Path

import pytest
from PIL import Image

from sd_core.cli import main
from small_runs import (
    experiment_file,
    log_lines,
    newest_state,
    same,
    scene,
)

pytestmark = pytest.mark.usefixtures("here")
LINE = "score-distill: "
QUICK = ("--set", "run.threads=1", "--set", "cameras.batch=4", "--set", "steps=6")
RUN = ("run", "--prompt", "two gaussians", *QUICK)


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
            "no renderer named 'afine'. Installed: affine, particles, solid, tiles. Did you mean "
            "'affine'?",
        ),
        (
            ("--prior", "image-bnk"),
            "no prior named 'image-bnk'. Installed: gaussian-mixture, image-bank, "
            "stable-diffusion. "
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
            "--set sed=1: unknown key 'sed'. Known keys: cameras, guidance, optimiser, prior, "
            "prompt, renderer, run, seed, stages, steps. Did you mean 'seed'?",
        ),
        (
            ("--set", "optimizer.learning_rate=3"),
            "--set optimizer.learning_rate=3: unknown key 'optimizer'. Known keys: cameras, "
            "guidance, optimiser, prior, prompt, renderer, run, seed, stages, steps. "
            "Did you mean 'optimiser'?",
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
        (("--set", "guidance=5"), "stages.0.guidance is 5, but it should be a table."),
        (("--set", "guidance=vdd"), "no guidance named 'vdd'. Installed: "),
        (
            ("--guidance", "mix", "--set", "guidance.options.sds.scale=-1"),
            "stages.0.guidance.options.sds.scale is -1, but it should be greater than or equal to ",
        ),
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
            ("--prior", "image-bank", "--set", "prior.folder=/nowhere"),
            "prior.folder is '/nowhere', but it has no captions.json. ",
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
            "prior.folder is missing. Add it: it has no default.",
        ),
        (
            'prompt = "x"\nprior = 5\n',
            "prior is 5, but it should be a table.",
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
        "stage 0: guidance 'sick' gave a non-finite gradient at step 3 (t = 501, 2 of 4 samples). "
        "Try a smaller learning rate or guidance scale, or run the prior in float32. For example: "
        "score-distill run a/config.json --set stages.0.optimiser.learning_rate=0.005 --output NEW."
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
