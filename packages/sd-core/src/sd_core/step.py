"""Where an optimisation is: step `index` of `total`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """One step of the optimisation, 0 ≤ index < total. Not a diffusion time: that is t.

    Phases and schedules are derived from it and never stored, so a resumed run behaves as the
    uninterrupted one.
    """

    index: int
    total: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.total:
            raise ValueError(f"step {self.index} of {self.total}: 0 <= index < total must hold")

    @property
    def fraction(self) -> float:
        """index / total, in [0, 1): 0 at the first step, never 1."""
        return self.index / self.total
