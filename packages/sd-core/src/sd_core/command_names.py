"""The commands that are built in, whose names no plugin may take."""

# Of each command that is built in: its module in sd_core.commands, imported when it is given, so
# that the others stay quick.
COMMAND_MODULES = {
    "run": "run",
    "resume": "resume",
    "export": "export",
    "evaluate": "evaluate",
    "diagnose": "diagnose",
    "plugins": "list_plugins",
    "describe": "describe",
    "schema": "schema",
    "doctor": "doctor",
}
