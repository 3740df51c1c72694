"""The divergences of the JSD paper's figure 8, on p = (a, 1 - a) and q = (1 - a, a).

    python benchmarks/divergences.py

Draws docs/images/divergences.png from `sd_guidance_jsd.divergences`, exactly, in nats. Here
KL(p, q) = KL(q, p). The paper's approximation, eq. 8, is drawn with both of its discriminators:
eq. 9's with p/(p + q) as classifier, and eq. 15's. So is the geometric JSD: with √(p·q) as printed,
which does not sum to 1, where it is J/4, and with √(p·q) made to sum to 1.
"""

from math import log
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from torch import Tensor

from sd_guidance_jsd.divergences import (
    geometric_jensen_shannon,
    jeffreys,
    jensen_shannon,
    kullback_leibler,
    log_odds_objective,
    optimal_discriminator_objective,
)

PICTURE = Path(__file__).parent.parent / "docs" / "images" / "divergences.png"
HIGHEST = 3.0  # of the picture; what leaves it goes on for ever


def printed_geometric(p: Tensor, q: Tensor) -> Tensor:
    """[KL(p, g) + KL(q, g)]/2 with g = √(p·q): J/4."""
    return jeffreys(p, q) / 4


# What is drawn, and how: curves that coincide differ in their dashes.
CURVES = (
    ("Jeffreys", jeffreys, {"color": "tab:red"}),
    ("KL, the objective of SDS", kullback_leibler, {"color": "tab:blue", "linewidth": 4}),
    ("eq. 8 with eq. 9", log_odds_objective, {"color": "gold", "linestyle": "--"}),
    ("eq. 8 with eq. 15, less log 2", optimal_discriminator_objective, {"color": "tab:orange"}),
    ("geometric JSD as printed", printed_geometric, {"color": "tab:purple"}),
    ("JSD", jensen_shannon, {"color": "tab:green", "linewidth": 4}),
    (
        "geometric JSD, summing to 1",
        geometric_jensen_shannon,
        {"color": "black", "linestyle": "--"},
    ),
)


def main() -> None:
    a = torch.linspace(0, 1, 1001, dtype=torch.float64)[1:-1]  # infinite at both ends
    p, q = torch.stack([a, 1 - a], dim=-1), torch.stack([1 - a, a], dim=-1)
    figure, panel = plt.subplots(figsize=(6.4, 4.4))
    for name, divergence, style in CURVES:
        values = divergence(p, q)
        panel.plot(a, values, label=name, **style)
        shown = ", ".join(f"{float(values[round(1000 * at) - 1]):.3f}" for at in (0.7, 0.9, 0.99))
        print(f"{name}: {shown} at a = 0.7, 0.9, 0.99")
    panel.axhline(log(2), color="black", linewidth=0.7, linestyle=":", label="log 2")
    panel.set(xlabel="a", ylabel="nats", xlim=(0, 1), ylim=(0, HIGHEST))
    panel.legend(loc="upper center", fontsize=8)
    figure.tight_layout()
    figure.savefig(PICTURE, dpi=110)
    plt.close(figure)
    print(f"the picture is {PICTURE.relative_to(PICTURE.parents[2])}")


if __name__ == "__main__":
    main()
