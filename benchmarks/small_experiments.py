"""The experiments in the plane: ESD's figures 3 and 8, and the bridge's painting-to-real.

    python benchmarks/small_experiments.py

Runs examples/two_gaussians.py, examples/esd_crops.toml by three methods, and
examples/painting_to_real.py, and rewrites their section of docs/results.md with the pictures. What
is finished under runs/small is not run again. A quarter of an hour of two cores.
"""

import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from _report import machine, write_section
from _runs import complete, finished
from torch.nn.functional import interpolate, normalize

from sd_core.cameras import turntable
from sd_core.encoders.features import FeatureExtractor
from sd_core.experiment import Experiment
from sd_core.pictures import contact_sheet, save_png
from sd_core.plugins import load_plugins
from sd_core.run_folder import RunFolder
from sd_core.saved_scene import load_scene
from sd_core.shapes import Images
from sd_core.tables import markdown
from sd_toybox.model.encoders import ENCODERS

ROOT = Path(__file__).parent.parent
RUNS, IMAGES = ROOT / "runs" / "small", ROOT / "docs" / "images"
DOCUMENT = ROOT / "docs" / "results.md"
sys.path.insert(0, str(ROOT / "examples"))

from painting_to_real import PICTURE, make_all  # noqa: E402
from two_gaussians import METHODS, TARGET, draw_all, fit  # noqa: E402

CROPS = {
    "SDS": ("--guidance", "sds"),
    "VSD": ("--guidance", "vsd"),
    "ESD": (),
}
WINDOW, SIZE, PLACES = 38, 64, 5  # of a window, of the picture, and windows in a row


def gaussian() -> str:
    """Figure 3: the fitted spread, and the covariance."""
    results = {name: fit(guidance, 2000) for name, guidance in METHODS.items()}
    rows = []
    for name, (_, matrix) in results.items():
        spread = torch.linalg.svdvals(matrix)
        (a, b), (_, d) = (matrix @ matrix.T).tolist()
        rows.append([name, f"{spread[0]:.2f}, {spread[1]:.2f}", f"{a:.3f}, {b:.3f}, {d:.3f}"])
    covariance = torch.tensor(TARGET["covariance"])
    target = torch.linalg.eigvalsh(covariance).sqrt().flip(0)
    rows.append(["target", f"{target[0]:.2f}, {target[1]:.2f}", "1.000, 0.800, 1.000"])
    draw_all(results, IMAGES / "two_gaussians.png")
    return markdown(["method", "standard deviations", "covariance: xx, xy, yy"], rows)


def crops() -> str:
    """Figure 8: how alike the windows of a picture are to the toybox's CLIP."""
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(_make_crops, CROPS))
    extractor = FeatureExtractor(ENCODERS.features, device=torch.device("cpu"))
    rows, pictures = [], []
    for name in CROPS:
        picture = _picture_of(RUNS / f"crops_{name}")
        tokens = normalize(extractor(_windows(picture)).whole.double(), dim=1)
        cosines = (tokens @ tokens.T)[*torch.triu_indices(len(tokens), len(tokens), offset=1)]
        rows.append([name, f"{cosines.mean():.3f}"])
        pictures.append(interpolate(picture, scale_factor=3))
    save_png(IMAGES / "esd_crops.png", contact_sheet(torch.cat(pictures), len(CROPS)))
    return markdown(["method", "mean cosine of two windows"], rows)


def _make_crops(name: str) -> None:
    folder = RUNS / f"crops_{name}"
    if not finished(folder):
        complete(folder, str(ROOT / "examples" / "esd_crops.toml"), *CROPS[name])


def _picture_of(folder: Path) -> Images:
    run, table = RunFolder.open(folder)
    scene = load_scene(run, Experiment(table, load_plugins()), device=torch.device("cpu"))
    with torch.no_grad():
        return scene.renderer.preview(turntable(1)).images


def _windows(picture: Images) -> Images:
    """As the methods saw it: what is not in a window is white."""
    starts = torch.linspace(0, SIZE - WINDOW, PLACES).long().tolist()
    seen = []
    for y in starts:
        for x in starts:
            window = slice(y, y + WINDOW), slice(x, x + WINDOW)
            white = torch.ones_like(picture)
            white[..., *window] = picture[..., *window]
            seen.append(white)
    return torch.cat(seen)


def paintings() -> str:
    """Section 4.3: how like the true picture, before and after."""
    folder = RUNS / "painting_to_real"
    if folder.is_dir():
        shutil.rmtree(folder)  # it takes a minute
    toys = make_all(folder)
    (IMAGES / PICTURE).write_bytes((folder / PICTURE).read_bytes())
    rows = [[toy.name, *(f"{value:.1f}" for value in toy.decibels())] for toy in toys]
    return markdown(["toy", "dB as a painting", "dB after"], rows)


def main() -> None:
    torch.set_num_threads(1)
    RUNS.mkdir(parents=True, exist_ok=True)
    text = f"""## Experiments in the plane

**A Gaussian** (ESD, figure 3): 2,000 steps, exact scores, one seed (examples/two_gaussians.py).

{gaussian()}

![Target in blue, fitted in orange](images/two_gaussians.png)

**A picture from random windows** (ESD, figure 8): {SIZE}², windows of {WINDOW}², the rest white,
one seed (examples/esd_crops.toml). How alike {PLACES**2} windows are to the toybox's CLIP; less is
more diverse.

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
