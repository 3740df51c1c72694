"""Real processes: killed, interrupted, cut off; and what they import."""

import json
import os
import random
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from sd_core.checkpoint import list_checkpoints, load_checkpoint
from sd_core.cli import main
from sd_core.run_folder import fingerprint
from small_runs import experiment_file, log_lines, newest_state, same

pytestmark = pytest.mark.usefixtures("here")
LINE = "score-distill: "
QUICK = ("--set", "run.threads=1", "--set", "cameras.batch=4", "--set", "steps=6")
RUN = ("run", "--prompt", "two gaussians", *QUICK)


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
    label, _ = load_checkpoint(checkpoint, experiment=fingerprint(config))
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
