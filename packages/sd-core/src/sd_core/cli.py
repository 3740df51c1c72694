"""The command `score-distill`. Only what `--help` and `plugins` need is imported up here."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from sd_core.command_names import COMMAND_MODULES
from sd_core.errors import ScoreDistillationError, nearest

if TYPE_CHECKING:
    from sd_core.plugins import Plugins

USER_ERROR = 2
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; a user's mistake is one line on stderr and exit code 2."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        parsed, plugins = _parse(arguments)
        code = _dispatch(parsed, plugins)
        sys.stdout.flush()  # here, where a closed pipe is caught, and not at exit
        return code
    except ScoreDistillationError as error:
        print(f"score-distill: {error}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output, such as `head`, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parse(arguments: list[str]) -> "tuple[argparse.Namespace, Plugins]":
    """Commands of plugins are looked up only where the first word is none that is built in."""
    name = arguments[0] if arguments else "-"
    if name in COMMAND_MODULES or name.startswith("-"):
        parsed = _parser().parse_args(arguments, argparse.Namespace(arguments=arguments))
        return parsed, _load_plugins(parsed)
    plugins = _load_plugins(_shared_parser().parse_known_args(arguments[1:])[0])
    commands = plugins.of_kind("command")
    if name not in commands:
        _parser().error(_no_such_command(name, plugins))
    parser = argparse.ArgumentParser(
        prog=f"score-distill {name}",
        description=commands[name].summary,
        parents=[_shared_parser()],
    )
    _add_experiment_options(parser)
    _add_command_options(parser)
    parsed = parser.parse_args(arguments[1:], argparse.Namespace(arguments=arguments, command=name))
    return parsed, plugins


def _load_plugins(parsed: argparse.Namespace) -> "Plugins":
    from sd_core.plugins import load_plugins

    return load_plugins(blocked=parsed.block, strict=parsed.strict)


def _no_such_command(name: str, plugins: "Plugins") -> str:
    of_plugins = list(plugins.of_kind("command"))
    known = [*COMMAND_MODULES, *of_plugins]
    told = (
        f"no command named {name!r}. Built in: {', '.join(COMMAND_MODULES)}; "
        f"of plugins: {', '.join(of_plugins) or 'none installed'}.{nearest(name, known)}"
    )
    return " ".join([told, *map(str, plugins.broken)])


def _dispatch(parsed: argparse.Namespace, plugins: "Plugins") -> int:
    module = COMMAND_MODULES.get(parsed.command, "of_plugin")
    exit_code: int = import_module(f"sd_core.commands.{module}").main(parsed, plugins)
    return exit_code


def _shared_parser() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--block", action="append", default=[], metavar="NAME", help="leave a plugin out"
    )
    shared.add_argument(
        "--strict", action="store_true", help="a broken plugin is a failure, not a remark"
    )
    return shared


def _parser() -> argparse.ArgumentParser:
    shared = _shared_parser()
    parser = argparse.ArgumentParser(
        prog="score-distill",
        description="Text-to-3D by score distillation, with every method as a plugin.",
        epilog="Plugins may add commands; score-distill plugins lists them.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="the version of sd-core")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser("run", parents=[shared], help="run an experiment, or just a prompt")
    _add_run_options(run)
    resume = commands.add_parser("resume", parents=[shared], help="go on with a stopped run")
    resume.add_argument("folder", metavar="RUN")
    resume.add_argument(
        "--previous", action="store_true", help="from the checkpoint before the newest one"
    )
    _add_quiet(resume)
    export = commands.add_parser(
        "export", parents=[shared], help="a run's scene as a file that other programs open"
    )
    _add_export_options(export)
    evaluate = commands.add_parser(
        "evaluate", parents=[shared], help="what metrics say of runs and pictures; methods compared"
    )
    _add_evaluate_options(evaluate)
    diagnose = commands.add_parser(
        "diagnose", parents=[shared], help="how much the gradients of methods scatter, and why"
    )
    _add_diagnose_options(diagnose)
    commands.add_parser("plugins", parents=[shared], help="what is installed, and what is broken")
    describe = commands.add_parser(
        "describe", parents=[shared], help="the options of a plugin, or of an experiment's tables"
    )
    _add_describe_options(describe)
    commands.add_parser(
        "schema", parents=[shared], help="the JSON schema of experiment files, on stdout"
    )
    doctor = commands.add_parser(
        "doctor", parents=[shared], help="what this machine has, and what an experiment needs"
    )
    doctor.add_argument("experiment", nargs="?", metavar="EXPERIMENT.toml")
    return parser


def _add_run_options(run: argparse.ArgumentParser) -> None:
    _add_experiment_options(run)
    run.add_argument("--output", metavar="FOLDER", help="run folder (default: runs/PROMPT-...)")
    _add_quiet(run)


def _add_command_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--with",
        action="append",
        default=[],
        dest="own",
        metavar="KEY=VALUE",
        help="an option of the command; describe command NAME lists them",
    )
    command.add_argument("--output", metavar="FOLDER", help="where the command's files go")


def _add_experiment_options(parser: argparse.ArgumentParser, told: str = "EXPERIMENT.toml") -> None:
    parser.add_argument("experiment", nargs="?", metavar=told)
    parser.add_argument("--prompt", metavar="TEXT", help="what to make")
    parser.add_argument("--guidance", metavar="NAME", help="the method of every stage")
    parser.add_argument("--renderer", metavar="NAME", help="the scene of every stage")
    parser.add_argument("--prior", metavar="NAME", help="the frozen model")
    parser.add_argument("--seed", metavar="N", help="seed of every random draw")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="one option, such as stages.0.guidance.scale=7.5, or guidance.scale=7.5 in all stages",
    )


def _add_export_options(export: argparse.ArgumentParser) -> None:
    export.add_argument("run", metavar="RUN")
    export.add_argument("--to", required=True, metavar="KIND", help="glb, obj, ply, png ...")
    export.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an option of the export, such as faces=5000; describe renderer NAME lists them",
    )
    export.add_argument("--stage", type=int, metavar="N", help="the scene at the end of this stage")
    export.add_argument("--output", metavar="FILE", help="default: RUN/final/scene.KIND")
    export.add_argument("--overwrite", action="store_true", help="replace files of that name")
    export.add_argument("--device", default="auto", metavar="NAME", help="default: auto")


def _add_evaluate_options(evaluate: argparse.ArgumentParser) -> None:
    evaluate.add_argument(
        "runs",
        nargs="+",
        metavar="RUN|FOLDER",
        help="a run, a folder of pictures, or a folder that holds several of them: one method",
    )
    evaluate.add_argument(
        "--metrics",
        metavar="NAME,NAME",
        help="default: those that need no file and no model of their own",
    )
    evaluate.add_argument("--views", metavar="N", help="views around the object (default: 24)")
    evaluate.add_argument(
        "--elevation",
        metavar="DEGREES",
        help="their height, one ring each for --elevation=-10,10,30 (default: 10)",
    )
    evaluate.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="METRIC.OPTION=VALUE",
        help="an option of a metric; describe metric NAME lists them",
    )
    evaluate.add_argument("--stage", type=int, metavar="N", help="the scene at the stage's end")
    evaluate.add_argument("--device", default="auto", metavar="NAME", help="default: auto")
    evaluate.add_argument(
        "--report",
        metavar="FOLDER",
        help="the comparison as markdown, CSV, LaTeX and a figure, with how it was measured",
    )
    evaluate.add_argument(
        "--prior",
        metavar="NAME",
        help="whose pictures they are like, for the models that read them (default: the run's own)",
    )
    _add_picture_options(evaluate)


def _add_picture_options(evaluate: argparse.ArgumentParser) -> None:
    pictures = evaluate.add_argument_group("folders of pictures")
    pictures.add_argument(
        "--prompt", metavar="TEXT", help="what they were made for (default: as captions.json says)"
    )
    pictures.add_argument(
        "--bad-pictures",
        choices=("refuse", "skip"),
        help="those that cannot be read, are not as large as most or have no prompt "
        "(default: refuse)",
    )


def _add_diagnose_options(diagnose: argparse.ArgumentParser) -> None:
    _add_experiment_options(diagnose, "EXPERIMENT.toml|RUN")
    diagnose.add_argument("--methods", metavar="NAME,NAME", help="default: the experiment's own")
    diagnose.add_argument(
        "--with",
        action="append",
        default=[],
        dest="own",
        metavar="METHOD.OPTION=VALUE",
        help="an option of one of the methods; describe guidance NAME lists them",
    )
    diagnose.add_argument("--draws", metavar="K", help="gradients at each camera (default: 32)")
    diagnose.add_argument("--cameras", metavar="N", help="how many cameras (default: 4)")
    diagnose.add_argument(
        "--times",
        metavar="T,T",
        help="indices of t; default: those at 0.1, 0.25, 0.5, 0.75, 0.9 of the noise schedule",
    )
    diagnose.add_argument(
        "--steps",
        metavar="I,I",
        help="after so many steps of the first stage (default: 0, the scene as it begins)",
    )
    diagnose.add_argument("--output", metavar="FOLDER", help="for diagnose.json and diagnose.png")


def _add_describe_options(describe: argparse.ArgumentParser) -> None:
    describe.add_argument(
        "kind",
        help="guidance, renderer, metric, prior, command; or experiment, stage, ...",
    )
    describe.add_argument("name", nargs="?", help="the plugin's name")


class _Version(argparse.Action):
    """argparse's own would have every command look the version up first, which takes 25 ms."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"score-distill {version('sd-core')}")
        parser.exit()


def _add_quiet(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--quiet", action="store_true", help="plain lines for log files instead of a progress bar"
    )
