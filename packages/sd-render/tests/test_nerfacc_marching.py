"""The way to nerfacc: its traversal needs CUDA, so that a stand-in takes its place here."""

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import Generator

from sd_core.errors import ConfigError
from sd_render import nerfacc_marching
from sd_render.marching import march
from sd_render.nerfacc_marching import choose_marching, march_with_nerfacc

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def traverse_grids(
    rays_o, rays_d, binaries, aabbs, near_planes=None, far_planes=None, step_size=1e-3
):
    """nerfacc 0.5.3's documented result: the ends of the pieces whose middle is in a full cell."""
    low, high = aabbs[0, :3], aabbs[0, 3:]
    vals, left, right, ray_indices = [], [], [], []
    for ray, (near, far) in enumerate(zip(near_planes, far_planes, strict=True)):
        start = float(near)
        while start < far - 1e-6:
            middle = rays_o[ray] + rays_d[ray] * (start + step_size / 2)
            share = (middle - low) / (high - low)
            cell = tuple((share * binaries.shape[1]).long().clamp(0, binaries.shape[1] - 1))
            if binaries[0][cell]:
                vals += [start, start + step_size]
                left += [True, False]
                right += [False, True]
                ray_indices.append(ray)
            start += step_size
    intervals = SimpleNamespace(
        vals=torch.tensor(vals), is_left=torch.tensor(left), is_right=torch.tensor(right)
    )
    return intervals, SimpleNamespace(ray_indices=torch.tensor(ray_indices)), far_planes


@pytest.fixture
def stand_in(monkeypatch):
    grid = ModuleType("nerfacc.grid")
    grid.traverse_grids = traverse_grids
    monkeypatch.setitem(sys.modules, "nerfacc", ModuleType("nerfacc"))
    monkeypatch.setitem(sys.modules, "nerfacc.grid", grid)


def straight_rays(count=20):
    """Along z: on these a piece of 2h/samples is what `march` takes."""
    origins = 0.7 * (2 * torch.rand(count, 3, generator=Generator().manual_seed(0)) - 1)
    origins[:, 2] = -2.0
    return origins, torch.tensor([0.0, 0.0, 1.0]).expand(count, 3)


@pytest.mark.parametrize("dense", [True, False])
def test_it_finds_the_samples_that_our_own_marching_finds(stand_in, dense):
    origins, directions = straight_rays()
    occupied = torch.rand(5, 5, 5, generator=Generator().manual_seed(1)) < 0.5
    told = {"half_extent": 0.8, "samples": 10, "jitter": torch.full((20,), 0.5)}
    told["occupied"] = None if dense else occupied
    own = march(origins, directions, **told)
    found = march_with_nerfacc(origins, directions, **told)
    assert 50 < len(own.ray) <= 200
    assert torch.equal(found.ray, own.ray)
    torch.testing.assert_close(found.depth, own.depth)
    torch.testing.assert_close(found.thickness, own.thickness)


def test_jitter_shifts_a_whole_ray_by_less_than_a_piece(stand_in):
    origins, directions = straight_rays(2)
    told = {"half_extent": 0.8, "samples": 10, "occupied": None}
    middle = march_with_nerfacc(origins, directions, jitter=torch.full((2,), 0.5), **told)
    moved = march_with_nerfacc(origins, directions, jitter=torch.tensor([0.5, 0.75]), **told)
    shift = moved.depth[moved.ray == 1][:9] - middle.depth[middle.ray == 1][:9]
    torch.testing.assert_close(shift, torch.full((9,), 0.25 * 0.16))
    assert torch.equal(moved.depth[moved.ray == 0], middle.depth[middle.ray == 0])


def install(monkeypatch, code):
    """A nerfacc with the CUDA code that it was built with, or None."""
    backend = ModuleType("nerfacc.cuda._backend")
    backend._C = code
    monkeypatch.setitem(sys.modules, "nerfacc", ModuleType("nerfacc"))
    monkeypatch.setitem(sys.modules, "nerfacc.cuda", ModuleType("nerfacc.cuda"))
    monkeypatch.setitem(sys.modules, "nerfacc.cuda._backend", backend)
    monkeypatch.setattr(nerfacc_marching, "find_spec", lambda name: object())


@pytest.mark.parametrize("installed", [True, False])
def test_the_automatic_choice_is_nerfacc_only_on_cuda_where_it_is_installed(monkeypatch, installed):
    install(monkeypatch, object())
    if not installed:
        monkeypatch.setattr(nerfacc_marching, "find_spec", lambda name: None)
    assert choose_marching("auto", CPU) == "batched"
    assert choose_marching("auto", CUDA) == ("nerfacc" if installed else "batched")
    assert choose_marching("batched", CUDA) == "batched"


def test_nerfacc_by_name_is_an_error_with_the_install_line_where_it_is_missing(monkeypatch):
    monkeypatch.setattr(nerfacc_marching, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r'not installed.*pip install "sd-render\[cuda\]"'):
        choose_marching("nerfacc", CUDA)


def test_the_automatic_choice_leaves_a_nerfacc_without_cuda_code_alone_and_says_so(
    monkeypatch, caplog
):
    install(monkeypatch, None)
    assert choose_marching("auto", CUDA) == "batched"
    assert caplog.messages == [
        "rays march without nerfacc, which finds no CUDA toolkit (nvcc) to build its code with"
    ]


def test_nerfacc_by_name_is_an_error_that_names_the_toolkit_where_there_is_none(monkeypatch):
    install(monkeypatch, None)
    with pytest.raises(ConfigError) as caught:
        choose_marching("nerfacc", CUDA)
    assert str(caught.value) == (
        "renderer.marching is nerfacc, which finds no CUDA toolkit (nvcc) to build its code with. "
        'Install what it lacks, or set renderer.marching = "batched".'
    )


@pytest.mark.parametrize(
    "failure", [ImportError("no rich\nat all"), RuntimeError("no rich"), OSError("no rich")]
)
def test_a_nerfacc_that_cannot_be_imported_says_why_on_one_line(monkeypatch, failure):
    def fail(name):
        raise failure

    install(monkeypatch, object())
    monkeypatch.setattr(nerfacc_marching, "import_module", fail)
    assert choose_marching("auto", CUDA) == "batched"
    with pytest.raises(ConfigError, match=r"cannot be imported \(no rich\)\. Install what"):
        choose_marching("nerfacc", CUDA)


@pytest.mark.parametrize("named", ["auto", "batched"])
def test_nerfacc_is_not_imported_for_nothing(monkeypatch, named):
    monkeypatch.setattr(nerfacc_marching, "find_spec", lambda name: object())
    monkeypatch.setattr(nerfacc_marching, "import_module", pytest.fail)
    assert choose_marching(named, CPU) == "batched"


def test_nerfacc_by_name_is_an_error_on_a_cpu(monkeypatch):
    monkeypatch.setattr(nerfacc_marching, "find_spec", lambda name: object())
    with pytest.raises(ConfigError, match="nerfacc, which needs a CUDA device, but this is cpu"):
        choose_marching("nerfacc", CPU)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_the_real_one_finds_them_too():
    pytest.importorskip("nerfacc")
    origins, directions = (each.cuda() for each in straight_rays())
    told = {"half_extent": 0.8, "samples": 10, "jitter": torch.full((20,), 0.5).cuda()}
    own = march(origins, directions, occupied=None, **told)
    found = march_with_nerfacc(origins, directions, occupied=None, **told)
    assert torch.equal(found.ray, own.ray)
    torch.testing.assert_close(found.depth, own.depth, atol=1e-4, rtol=1e-4)
