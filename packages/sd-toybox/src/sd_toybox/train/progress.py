"""One line every few seconds: what is done, how well it goes, and how long it still takes."""

from collections.abc import Callable, Mapping
from time import monotonic

_EVERY_SECONDS = 10.0


class Progress:
    """Counts one part of the work from `done` to `total`; `write` shows a line."""

    def __init__(self, name: str, total: int, write: Callable[[str], None]) -> None:
        self.name = name
        self.total = total
        self._write = write
        self._began = self._shown = monotonic()
        self._first: int | None = None

    def at(self, done: int, values: Mapping[str, float] | None = None) -> None:
        """Called after each piece of work; says something at the end and now and then."""
        self._first = done - 1 if self._first is None else self._first
        now = monotonic()
        if done < self.total and now - self._shown < _EVERY_SECONDS:
            return
        self._shown = now
        left = (now - self._began) / (done - self._first) * (self.total - done)
        told = "".join(f"  {name} {value:.4g}" for name, value in (values or {}).items())
        self._write(f"{self.name:<10}{done:>6}/{self.total}{told}  {minutes(left)} left")


def minutes(seconds: float) -> str:
    """2:05 for two minutes and five seconds."""
    whole = round(seconds)
    return f"{whole // 60}:{whole % 60:02d}"
