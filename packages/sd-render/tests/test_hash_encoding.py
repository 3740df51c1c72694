"""Who computes the hash grid, and that it is one grid whoever does."""

import sys

import pytest
import torch
from torch import Generator

import fake_tinycudann
from hash_reference import MIXED, points_and_corners
from sd_core.errors import CheckpointError, ConfigError
from sd_core.saved_scene import load_state
from sd_render.encodings import compiled_hash, eager_hash
from sd_render.encodings.compiled_hash import CompilationFailed
from sd_render.encodings.hash_encoding import HashEncoding, choose_backend

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def encoding(backend="eager", seed=0, device=CPU):
    return HashEncoding(MIXED, backend, generator=Generator().manual_seed(seed), device=device)


@pytest.fixture
def compiler(monkeypatch):
    """As if there were one, whose code is what eager torch computes."""
    monkeypatch.setattr(compiled_hash, "encode", eager_hash.encode)
    monkeypatch.setenv("CXX", sys.executable)


@pytest.fixture
def no_compiler(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")


@pytest.fixture
def broken_compiler(monkeypatch):
    def fail(*_):
        raise CompilationFailed("no omp.h")

    monkeypatch.setattr(compiled_hash, "encode", fail)
    monkeypatch.setenv("CXX", sys.executable)


# its table


def test_its_table_is_small_even_noise_of_the_generator():
    table = encoding().table.detach()
    assert table.shape == (MIXED.entries, MIXED.features)
    assert 0.9e-4 < table.max() <= 1e-4
    assert -0.9e-4 > table.min() >= -1e-4
    assert table.mean().abs() < 1e-5
    assert torch.equal(table, encoding().table)
    assert not torch.equal(table, encoding(seed=1).table)


def test_global_random_state_changes_nothing():
    points = points_and_corners(20, torch.float32)
    torch.manual_seed(1)
    one = encoding()(points)
    torch.manual_seed(2)
    assert torch.equal(encoding()(points), one)


def test_it_is_the_layouts_encoding_of_its_table():
    points, made = points_and_corners(20, torch.float32), encoding()
    assert torch.equal(made(points), eager_hash.encode(points, made.table, MIXED))


def test_a_state_is_carried_from_one_backend_to_another(compiler):
    eager, compiled = encoding(), encoding("compiled", seed=1)
    assert list(eager.state_dict()) == list(compiled.state_dict()) == ["table"]
    compiled.load_state_dict(eager.state_dict())
    points = points_and_corners(20, torch.float32)
    assert torch.equal(compiled(points), eager(points))


def test_a_table_of_tinycudann_is_refused_elsewhere_with_what_it_needs(monkeypatch, no_compiler):
    fake_tinycudann.install(monkeypatch)
    scene, trained = torch.nn.ModuleList([encoding("auto")]), encoding("auto", device=CUDA)
    with pytest.raises(CheckpointError) as caught:
        load_state(scene, torch.nn.ModuleList([trained]).state_dict(), "scene")
    assert str(caught.value) == (
        "this hash grid was trained with tinycudann, whose table no other backend reads, but here "
        "it is computed by 'eager' (not tinycudann: the scene is on cpu, and it needs a CUDA "
        "device; not compiled: there is no C++ compiler 'no-such-compiler'). Load it on a CUDA "
        "device where tinycudann is installed: pip install "
        "git+https://github.com/NVlabs/tiny-cuda-nn/#subdirectory=bindings/torch."
    )


def test_tinycudann_refuses_the_table_of_another_with_what_it_needs(monkeypatch):
    fake_tinycudann.install(monkeypatch)
    with pytest.raises(CheckpointError) as caught:
        load_state(encoding("auto", device=CUDA), encoding().state_dict(), "scene")
    assert str(caught.value) == (
        "this hash grid was trained without tinycudann, which reads no other backend's table, but "
        "here it is computed by tinycudann (tinycudann is the fastest here). Load it on a CPU, or "
        "where tinycudann is not installed."
    )


def test_tinycudann_loads_what_it_saved(monkeypatch):
    fake_tinycudann.install(monkeypatch)
    saved, fresh = encoding("auto", device=CUDA), encoding("auto", device=CUDA)
    torch.nn.init.normal_(saved.tcnn.encoding.params)
    load_state(fresh, saved.state_dict(), "scene")
    assert torch.equal(fresh.tcnn.encoding.params, saved.tcnn.encoding.params)


def test_a_table_in_double_precision_is_computed_in_it(broken_compiler):
    made = encoding("compiled")
    made._tried_out = True
    assert made.double()(points_and_corners(5)).dtype == torch.float64


# progressive levels


@pytest.mark.parametrize("levels", [1, 3])
def test_levels_that_do_not_take_part_are_zero_and_learn_nothing(levels):
    points, made = points_and_corners(50, torch.float32), encoding()
    whole = made(points).detach()
    made.enabled_levels = levels
    part = made(points)
    width, first = levels * MIXED.features, MIXED.offsets[levels]
    assert torch.equal(part[:, :width], whole[:, :width])
    assert part.shape == whole.shape
    assert not part[:, width:].any()
    part.square().sum().backward()
    assert made.table.grad[:first].any()
    assert not made.table.grad[first:].any()


def test_more_levels_than_there_are_is_all_of_them():
    points, made = points_and_corners(5, torch.float32), encoding()
    whole = made(points)
    made.enabled_levels = 100
    assert torch.equal(made(points), whole)


# twice differentiable or not


def test_the_twice_differentiable_features_are_eager_on_the_same_table(broken_compiler):
    made = encoding("compiled")
    made.enabled_levels = 2
    points = points_and_corners(3, torch.float32).requires_grad_()
    features = made.forward_twice_differentiable(points)
    (slope,) = torch.autograd.grad(features.sum(), points, create_graph=True)
    slope.square().sum().backward()
    assert made.table.grad.any()
    assert not features[:, 4:].any()


# the choice


def test_eager_is_what_is_left_and_says_why(no_compiler):
    backend, reason = choose_backend("auto", CPU)
    assert backend == "eager"
    assert reason == (
        "not tinycudann: the scene is on cpu, and it needs a CUDA device; "
        "not compiled: there is no C++ compiler 'no-such-compiler'"
    )


def test_compiled_is_the_fastest_without_cuda(compiler):
    backend, reason = choose_backend("auto", CPU)
    assert backend == "compiled"
    assert reason.endswith("; compiled is the fastest here")


def test_tinycudann_is_the_fastest_on_cuda(monkeypatch):
    fake_tinycudann.install(monkeypatch)
    made = encoding("auto", device=CUDA)
    assert (made.backend, made.reason) == ("tinycudann", "tinycudann is the fastest here")
    made.enabled_levels = 1
    features = made(torch.ones(5, 3))
    assert features.tolist() == [[3.0, 3.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]] * 5
    assert torch.equal(made.forward_twice_differentiable(torch.ones(5, 3)), features)


def test_what_is_named_is_taken(compiler):
    assert choose_backend("eager", CPU) == ("eager", "asked for")
    assert choose_backend("compiled", CPU) == ("compiled", "asked for")


def test_a_named_tinycudann_that_is_missing_is_the_users_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tinycudann", None)
    with pytest.raises(ConfigError) as caught:
        choose_backend("tinycudann", CUDA)
    message = str(caught.value)
    assert message.startswith("hash-grid backend 'tinycudann' was asked for, but it cannot be")
    assert message.endswith(
        "). On CUDA, pip install git+https://github.com/NVlabs/tiny-cuda-nn/"
        "#subdirectory=bindings/torch; or choose 'auto'."
    )
    assert "\n" not in message


def test_a_named_compiled_without_a_compiler_is_refused(no_compiler):
    with pytest.raises(ConfigError) as caught:
        encoding("compiled")
    assert str(caught.value) == (
        "hash-grid backend 'compiled' was asked for, but there is no C++ compiler "
        "'no-such-compiler'. Install one or name yours in CXX; or choose 'eager'."
    )


def test_a_named_compiled_that_fails_is_refused(broken_compiler):
    with pytest.raises(ConfigError) as caught:
        encoding("compiled")(points_and_corners(5, torch.float32))
    assert str(caught.value) == (
        "hash-grid backend 'compiled' was asked for, but compiling failed: no omp.h. "
        "Choose 'eager', or mend the compiler."
    )


def test_an_automatic_compiled_that_fails_becomes_eager_and_says_so(broken_compiler, caplog):
    points, made = points_and_corners(5, torch.float32), encoding("auto")
    assert made.backend == "compiled"
    assert torch.equal(made(points), encoding()(points))
    assert made.backend == "eager"
    assert made.reason == "not compiled: compiling failed: no omp.h"
    (said,) = caplog.messages
    assert "several times slower" in said and made.reason in said
