"""Commands that plugins add to `score-distill`."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import fake_command
from fake_command import CountOptions, calls
from fake_distributions import empty_site, hook
from fake_distributions import entry as entry_source
from sd_core import plugins as plugins_module
from sd_core.cli import main
from sd_core.command import CommandContext
from sd_core.command_names import COMMAND_MODULES
from sd_core.plugins import load_plugins

pytestmark = pytest.mark.usefixtures("fakes")
POINTS = ("--prior", "gaussian-mixture", "--prompt", "two gaussians")


@pytest.fixture
def fakes(tmp_path, monkeypatch):
    """What is built in, and a plugin with two commands."""

    def load(**options):
        return load_plugins(installed=False, extra=[fake_command], **options)

    monkeypatch.setattr(plugins_module, "load_plugins", load)
    monkeypatch.chdir(tmp_path)
    calls.clear()


site = pytest.fixture(empty_site)


def test_a_command_gets_its_options_the_experiment_and_the_folder(cli):
    given = ("--guidance", "vsd", "--seed", "5", "--set", "guidance.scale=2", "--output", "there")
    out = cli("count", *POINTS, *given, "--with", "upto=9", "--with", "aloud=true")
    assert out == "COUNTED\n"
    ((options, context),) = calls
    assert options == CountOptions(upto=9, aloud=True)
    assert isinstance(context, CommandContext)
    assert context.output == Path("there")
    stage = context.experiment.stages[0]
    assert (stage.guidance.entry.name, stage.guidance.options.scale) == ("vsd", 2)
    assert context.experiment.options.seed == 5
    assert context.experiment.prior.entry.name == "gaussian-mixture"
    assert not Path("there").exists()


def test_a_command_takes_an_experiment_file_and_its_threads(cli):
    Path("mine.toml").write_text(
        'prompt = "two gaussians"\nprior = "gaussian-mixture"\nseed = 3\nrun = {threads = 1}\n'
    )
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        cli("count", "mine.toml", "--prompt", "one")
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(threads)
    ((options, context),) = calls
    assert options == CountOptions() and context.output is None
    assert (context.experiment.options.prompt.text, context.experiment.options.seed) == ("one", 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("count",), 'there is no prompt. Say what to make: --prompt "a red bear".'),
        (
            ("count", *POINTS, "--guidance", "vdd"),
            "no guidance named 'vdd'. Installed: mix, sds, vsd. Did you mean 'vsd'?",
        ),
        (
            ("count", *POINTS, "--with", "uptoo=2"),
            "unknown key 'uptoo' in count. Known keys: aloud, upto. Did you mean 'upto'?",
        ),
        (
            ("count", *POINTS, "--with", "upto=0"),
            "count.upto is 0, but it should be greater than or equal to 1.",
        ),
        (
            ("count", *POINTS, "--with", "upto"),
            "--with upto is not an assignment. Write --with KEY=VALUE.",
        ),
        (
            ("count", *POINTS, "--with", "upto=1", "--with", "upto.far=2"),
            "--with upto.far=2: upto is a value, not a table.",
        ),
        (
            ("count", "a red bear"),
            "there is no experiment file 'a red bear'. Give a .toml or .json file, or say what to "
            "make: score-distill count --prompt 'a red bear'.",
        ),
        (("refuse", *POINTS), "not today."),
        (
            ("count", "--block", "nobody"),
            "no plugin to block is named 'nobody'. Installed: fake_command.",
        ),
    ],
    ids=str,
)
def test_a_mistake_is_one_line(refused, arguments, message):
    assert refused(*arguments) == message
    assert calls == []


def usage_error(capsys, *arguments) -> str:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    usage, _, error = err.partition(": error: ")
    assert usage.startswith("usage: score-distill")
    assert out == "" and error.count("\n") == 1 and error.endswith("\n")
    return error.removesuffix("\n")


def test_an_unknown_command_is_told_all_that_there_are(capsys):
    assert usage_error(capsys, "coutn", "--what") == (
        f"no command named 'coutn'. Built in: {', '.join(COMMAND_MODULES)}; "
        "of plugins: count, refuse. Did you mean 'count'?"
    )
    assert "Did you mean 'resume'?" in usage_error(capsys, "resum")


def test_a_blocked_plugin_has_no_commands(capsys):
    told = usage_error(capsys, "count", "--block", "fake_command")
    assert "of plugins: none installed." in told
    assert calls == []


def test_an_unknown_flag_of_a_command_is_refused(capsys):
    assert usage_error(capsys, "count", "--upto") == "unrecognized arguments: --upto"


def test_help_of_a_command_says_what_it_does(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["count", "--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith("usage: score-distill count ")
    assert "Counts" in out and "--with KEY=VALUE" in out and "--prompt TEXT" in out


def test_plugins_and_describe_know_commands(cli):
    assert "command   count              Counts (fake_command)" in cli("plugins").splitlines()
    out = cli("describe", "command", "count")
    assert out.startswith("command count (fake_command): Counts\nEuclid\n")
    assert "\n  upto  default 3, ≥ 1\n      The last number.\n" in out


@pytest.mark.parametrize("name", COMMAND_MODULES)
def test_no_command_takes_the_place_of_one_that_is_built_in(site, name):
    site.install("a", code=hook(f"return [{entry_source(name, 'Command')}]", name="sd_commands"))
    plugins = load_plugins(builtin=False)
    (broken,) = plugins.broken
    assert broken.error == f"offers command '{name}', which is built in. Rename it."
    assert plugins.of_kind("command") == {}


def test_a_broken_plugin_is_named_with_an_unknown_command(site, monkeypatch, capsys):
    site.install("a", code="raise ImportError('libcuda')")
    monkeypatch.setattr(plugins_module, "load_plugins", load_plugins)
    told = usage_error(capsys, "frobnicate")
    assert told.endswith("a 0.1 is installed but broken (ImportError: libcuda).")


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["--version"]])
def test_help_looks_for_no_plugins(arguments):
    code = (
        "import sys; from sd_core.cli import main\ntry:\n    main(sys.argv[1:])\n"
        "except SystemExit:\n    print('sd_core.plugins' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    assert done.stdout.endswith("False\n")
