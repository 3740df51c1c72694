"""The experiments in the plane: ESD's figures 3 and 8, and the bridge's painting-to-real.

    python benchmarks/small_experiments.py

Runs examples/two_gaussians.py, examples/esd_crops.toml by three methods, and
examples/painting_to_real.py, and rewrites their section of docs/results.md with the pictures. What
is finished under runs/small is not run again. A quarter of an hour of two cores.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from _report import machine, write_section
from _runs import complete, finished, minutes
from torch import Tensor
from torch.nn.functional import normalize

from sd_core.encoders.features import FeatureExtractor
from sd_core.picture_folder import read_picture
from sd_core.pictures import contact_sheet, save_png
from sd_core.shapes import Images
from sd_core.tables import markdown
from sd_toybox.model.encoders import ENCODERS

ROOT = Path(__file__).parent.parent
RUNS, IMAGES = ROOT / "runs" / "small", ROOT / "docs" / "images"
DOCUMENT = ROOT / "docs" / "results.md"
sys.path.insert(0, str(ROOT / "examples"))

import painting_to_real  # noqa: E402
import two_gaussians  # noqa: E402

CROPS = {
    "SDS": ("--guidance", "sds"),
    "VSD": ("--guidance", "vsd"),
    "ESD": (),
}
WINDOW, SIZE, PLACES = 64, 128, 5  # of a window, of the picture, and windows in a row


def gaussian() -> str:
    """Figure 3: the fitted spread, and the covariance."""
    rows = []
    for name, guidance in two_gaussians.METHODS.items():
        _, matrix = two_gaussians.fit(guidance, 2000)
        spread = torch.linalg.svdvals(matrix)
        (a, b), (_, d) = (matrix @ matrix.T).tolist()
        rows.append([name, f"{spread[0]:.2f}, {spread[1]:.2f}", f"{a:.3f}, {b:.3f}, {d:.3f}"])
    covariance = torch.tensor(two_gaussians.TARGET["covariance"])
    target = torch.linalg.eigvalsh(covariance).sqrt().flip(0)
    rows.append(["target", f"{target[0]:.2f}, {target[1]:.2f}", "1.000, 0.800, 1.000"])
    two_gaussians_picture()
    return markdown(["method", "standard deviations", "covariance: xx, xy, yy"], rows)


def two_gaussians_picture() -> None:
    folder = RUNS / "two_gaussians"
    picture = folder / "two_gaussians.png"
    if not picture.is_file():
        _as_command(two_gaussians, "--output", str(folder))
    (IMAGES / picture.name).write_bytes(picture.read_bytes())


def crops() -> str:
    """Figure 8: how alike the windows of a picture are to the toybox's CLIP."""
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(_make_crops, CROPS))
    extractor = FeatureExtractor(ENCODERS.features, device=torch.device("cpu"))
    rows, pictures = [], []
    for name in CROPS:
        folder = RUNS / f"crops_{name}"
        picture = _picture_of(folder)
        tokens = normalize(extractor(_windows(picture)).whole.double(), dim=1)
        cosines = (tokens @ tokens.T)[*torch.triu_indices(len(tokens), len(tokens), offset=1)]
        rows.append([name, f"{cosines.mean():.3f}", f"{minutes(folder):.1f}"])
        pictures.append(picture)
    save_png(IMAGES / "esd_crops.png", contact_sheet(torch.cat(pictures), len(CROPS)))
    return markdown(["method", "mean cosine of two windows", "minutes"], rows)


def _make_crops(name: str) -> None:
    folder = RUNS / f"crops_{name}"
    if not finished(folder):
        complete(folder, str(ROOT / "examples" / "esd_crops.toml"), *CROPS[name])


def _picture_of(folder: Path) -> Images:
    return read_picture(folder / "final" / "contact_sheet.png")[None, :, :SIZE, :SIZE]


def _windows(picture: Images) -> Images:
    starts = torch.linspace(0, SIZE - WINDOW, PLACES).long().tolist()
    return torch.cat([picture[..., y : y + WINDOW, x : x + WINDOW] for y in starts for x in starts])


def paintings() -> str:
    """Section 4.3: how like the true picture, before and after."""
    folder = RUNS / "painting_to_real"
    picture = folder / "painting_to_real.png"
    if not picture.is_file():
        _as_command(painting_to_real, "--output", str(folder))
    (IMAGES / picture.name).write_bytes(picture.read_bytes())
    toys = len(painting_to_real.TOYS)
    cells = _cells(read_picture(picture), toys, 3)
    rows = []
    for index, (kind, colour) in enumerate(painting_to_real.TOYS):
        true, painted, real = (cells[row * toys + index] for row in range(3))
        before, after = (painting_to_real.decibels(each, true) for each in (painted, real))
        rows.append([f"a {colour} {kind}", f"{before:.1f}", f"{after:.1f}"])
    return markdown(["toy", "dB as a painting", "dB after"], rows)


def _cells(sheet: Tensor, columns: int, rows: int) -> list[Tensor]:
    """The pictures of a sheet, row by row."""
    return [cell for row in sheet.chunk(rows, dim=1) for cell in row.chunk(columns, dim=2)]


def _as_command(module: object, *arguments: str) -> None:
    before, sys.argv = sys.argv, ["", *arguments]
    try:
        module.main()  # type: ignore[attr-defined]
    finally:
        sys.argv = before


def main() -> None:
    torch.set_num_threads(1)
    RUNS.mkdir(parents=True, exist_ok=True)
    text = f"""## Experiments in the plane

**A Gaussian** (ESD, figure 3): 2,000 steps, exact scores, one seed (examples/two_gaussians.py).

{gaussian()}

![Target in blue, fitted in orange](images/two_gaussians.png)

**A picture from random crops** (ESD, figure 8): 128², windows of 64², one seed
(examples/esd_crops.toml). How alike 25 windows are to the toybox's CLIP; less is more diverse.

{crops()}

![From the left: {", ".join(CROPS)}](images/esd_crops.png)

**Paintings become pictures** (bridge, section 4.3): likeness to the true picture, peak
signal to noise (examples/painting_to_real.py).

{paintings()}

![From above: true, painted, made real](images/painting_to_real.png)

{machine("sd-core", "sd-toybox", "torch", "diffusers")}; made by benchmarks/small_experiments.py.
"""
    write_section("small-experiments", text, DOCUMENT)


if __name__ == "__main__":
    main()
