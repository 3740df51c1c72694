"""One module for each command, each with `main(parsed, plugins) -> exit code`."""
