"""Processes: killed, interrupted, cut off, resumed; what they import, and what they show."""

import io
import json
import os
import random
import signal
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from sd_core.checkpoint import list_checkpoints, load_checkpoint
from sd_core.cli import main
from sd_core.commands import watch
from sd_core.renderers.affine import Affine
from sd_core.run_folder import RunFolder, fingerprint
from sd_core.runner import Stop
from small_runs import experiment_file, log_lines, newest_state, same

pytestmark = pytest.mark.usefixtures("here")
LINE = "score-distill: "
QUICK = ("--set", "run.threads=1", "--set", "cameras.batch=4", "--set", "steps=6")
RUN = ("run", "--prior", "gaussian-mixture", "--prompt", "two gaussians", *QUICK)


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
prior = "gaussian-mixture"
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


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_or_the_end_of_a_job_finishes_the_step_saves_and_says_how_to_go_on(kind):
    endless = KILLED.replace("steps = 150", "steps = 1000000").replace("= 7", "= 1000000")
    running = process("run", experiment_file(endless), "--output", "a")
    wait_for_lines(running, Path("a/log.jsonl"), 5)
    running.send_signal(kind)
    out, err = running.communicate()
    assert (running.returncode, err) == (130, "")
    assert out.endswith("stopped and saved; go on with: score-distill resume a\n")
    (checkpoint,) = list_checkpoints(Path("a/checkpoints"))
    config = json.loads(Path("a/config.json").read_text())["experiment"]
    label, _ = load_checkpoint(checkpoint, experiment=fingerprint(config))
    assert label.steps_done == len(log_lines(Path("a")))


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_interrupts_at_once(first, second):
    before, stop = [signal.getsignal(kind) for kind in (first, second)], Stop()
    with pytest.raises(KeyboardInterrupt), watch.stop_when_asked(stop):
        signal.raise_signal(first)
        assert stop.requested
        signal.raise_signal(second)
    assert [signal.getsignal(kind) for kind in (first, second)] == before


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
@pytest.mark.parametrize("command", [("plugins",), (*RUN, "--output", "a")], ids=["plugins", "run"])
def test_a_reader_that_has_had_enough_is_no_noise(unbuffered, command):
    flags = ["-u"] if unbuffered else []
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, *flags, "-c", SCRIPT, *command],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


def test_an_error_of_the_system_in_a_plugin_stays_a_traceback(monkeypatch):
    """It is the plugin's bug, and no trouble with the run folder."""

    def forward(self, cameras):
        raise FileNotFoundError(2, "No such file or directory", "weights.pt")

    monkeypatch.setattr(Affine, "forward", forward)
    with pytest.raises(FileNotFoundError, match=r"weights\.pt"):
        main([*RUN, "--output", "a"])


def test_a_run_that_another_process_goes_on_with_is_left_to_it(cli, refused):
    cli(*RUN, "--output", "a")
    with RunFolder.open(Path("a"))[0].locked():
        assert refused("resume", "a", "--previous") == (
            "another process is running in a. Wait for it, or stop it."
        )


# what a resumed run tells


def made_by():
    return json.loads(Path("a/made_by.json").read_text())


def test_each_resume_is_recorded(cli):
    cli(*RUN, "--set", "run.checkpoint_every=2", "--output", "a")
    before = made_by()
    assert "not as before" not in cli("resume", "a", "--previous")
    cli("resume", "a")  # finished by now: nothing is done
    cli("resume", "a", "--previous")
    now = made_by()
    first, second = now.pop("resumed")
    assert now == before
    assert first["from"] == second["from"] == {"stage": 0, "steps_done": 4}
    assert set(first) == {"resumed", "from", "versions", "plugins", "prior", "machine"}
    for key in ("versions", "plugins", "prior", "machine"):
        assert first[key] == before[key]
    assert before["started"] <= first["resumed"] <= second["resumed"]


def test_what_changed_since_is_told_once(cli):
    cli(*RUN, "--set", "run.checkpoint_every=2", "--output", "a")
    told = made_by()
    told["versions"] |= {"torch": "1.0", "numpy": "0.1", "python": "2.7"}
    told["plugins"]["guidance sds"] = "my-methods 9"
    told["prior"]["class"] = "OtherPrior"
    Path("a/made_by.json").write_text(json.dumps(told))
    core = told["plugins"]["renderer affine"]
    assert cli("resume", "a", "--previous").splitlines()[0] == (
        f"not as before: torch 1.0 -> torch {torch.__version__}, "
        f"class OtherPrior -> class GaussianMixturePrior, my-methods 9 -> {core}; "
        "the results may differ"
    )
    assert "not as before" not in cli("resume", "a", "--previous")


def test_another_sd_core_is_told_but_once_for_all_that_it_offers(cli):
    cli(*RUN, "--set", "run.checkpoint_every=2", "--output", "a")
    told = made_by()
    core = f"sd-core {told['versions']['sd-core']}"
    told["versions"]["sd-core"] = "0.0"
    told["plugins"] = {key: "sd-core 0.0" for key in told["plugins"]}
    Path("a/made_by.json").write_text(json.dumps(told))
    line = cli("resume", "a", "--previous").splitlines()[0]
    assert line == f"not as before: sd-core 0.0 -> {core}; the results may differ"


def test_a_run_without_a_usable_made_by(cli, refused):
    cli(*RUN, "--set", "run.checkpoint_every=2", "--output", "a")
    path = Path("a/made_by.json")
    path.write_text("{")
    assert refused("resume", "a", "--previous").startswith(f"{path} cannot be read (")
    path.unlink()
    cli("resume", "a", "--previous")
    assert list(made_by()) == ["resumed"]


# what is shown meanwhile


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_gets_a_bar(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    assert main([*RUN, "--output", "a"]) == 0
    assert "6/6" in terminal.getvalue()
    assert "done; the pictures are in a/final" in terminal.getvalue()


def test_quiet_prints_plain_lines_with_the_first_and_the_last_step(cli):
    first, *_, last, done = cli(*RUN, "--quiet", "--output", "a").splitlines()
    assert first.startswith("stage 0 step 1/6 ? steps/s ? s left |g| ")
    assert last.startswith("stage 0 step 6/6 ") and " 0 s left |g| " in last
    assert done == "done; the pictures are in a/final"


def test_no_speed_is_told_before_two_steps_of_the_stage_are_done(cli, monkeypatch):
    monkeypatch.setattr(watch, "QUIET_SECONDS", 0.0)
    stages = "[[stages]]\nsteps = 3\n[[stages]]\nsteps = 2\n"
    cli_lines = cli("run", experiment_file(f'prompt = "x"\n{stages}'), "--quiet", "--output", "a")
    known = ["? steps/s ? s left" not in line for line in cli_lines.splitlines()[:-1]]
    assert known == [False, True, True, False, True]


def test_a_bar_tells_no_speed_before_two_steps_are_done(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    assert main([*RUN, "--set", "steps=1", "--output", "a"]) == 0
    assert " ? steps/s " in terminal.getvalue().rpartition("\r")[2]  # the bar's last state


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr() == (f"score-distill {version('sd-core')}\n", "")
