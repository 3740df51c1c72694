"""A plugin for tests: two commands."""

from sd_core.config import Options, option
from sd_core.entries import CommandEntry
from sd_core.errors import ConfigError
from sd_core.hookspecs import hookimpl

calls = []


@hookimpl
def sd_commands():
    options = "fake_command:CountOptions"
    return [
        CommandEntry("count", "Counts", "Euclid", options, "fake_command:count"),
        CommandEntry("refuse", "Never", "", options, "fake_command:refuse"),
    ]


class CountOptions(Options):
    """How far."""

    upto: int = option(3, "The last number.", ge=1)
    aloud: bool = option(False, "In capitals.")


def count(options, context):
    calls.append((options, context))
    print("COUNTED" if options.aloud else "counted")


def refuse(options, context):
    raise ConfigError("not today.")
