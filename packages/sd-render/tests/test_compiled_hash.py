"""The compiled hash grid against the eager one. The first test that runs compiles, for seconds."""

import pytest
import torch
from torch import Generator
from torch._dynamo.exc import TorchDynamoException

from hash_reference import MIXED, MIXED_LINEAR, points_and_corners, table_of
from sd_render.encodings import compiled_hash, eager_hash
from sd_render.encodings.hash_layout import HashLayout

CPU = torch.device("cpu")
REASON = compiled_hash.obstacle(CPU)
compiles = pytest.mark.skipif(REASON is not None, reason=str(REASON))


def both(points, layout):
    """Features and the gradients of points and table, of both backends, for one loss."""
    found = []
    for encode in (eager_hash.encode, compiled_hash.encode):
        place = points.clone().requires_grad_()
        table = table_of(layout, torch.float32).requires_grad_()
        features = encode(place, table, layout)
        weights = torch.randn(features.shape, generator=Generator().manual_seed(4))
        (features * weights).sum().backward()
        found.append((features.detach(), place.grad, table.grad))
    return found


def agree(points, layout):
    eager, compiled = both(points, layout)
    for one, other in zip(eager, compiled, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-5, atol=1e-4)


@compiles
@pytest.mark.parametrize("count", [300, 10, 1, 0])
def test_compiled_is_eager_in_features_and_gradients(count):
    agree(points_and_corners(300, torch.float32)[-count:] if count else torch.zeros(0, 3), MIXED)


@compiles
def test_chunks_add_up(monkeypatch):
    monkeypatch.setattr(compiled_hash, "CHUNK", 48)
    agree(points_and_corners(300, torch.float32), MIXED)


@compiles
def test_other_numbers_of_points_levels_and_entries_need_no_other_code():
    agree(points_and_corners(300, torch.float32), MIXED)
    other = HashLayout(
        levels=9, features=2, log2_table=12, base_resolution=8, growth=1.5, smooth=True
    )
    with torch.compiler.set_stance("fail_on_recompile"):
        for layout, count in ((other, 50), (MIXED, 1), (other.first(2), 1000)):
            agree(points_and_corners(count, torch.float32), layout)


@compiles
def test_equal_bits_every_time():
    points = points_and_corners(300, torch.float32)
    for one, other in zip(both(points, MIXED)[1], both(points, MIXED)[1], strict=True):
        assert torch.equal(one, other)


@compiles
def test_it_refuses_to_be_differentiated_twice():
    points = points_and_corners(2, torch.float32).requires_grad_()
    features = compiled_hash.encode(points, table_of(MIXED, torch.float32), MIXED)
    with pytest.raises(RuntimeError, match="has no create_graph: use the eager one"):
        torch.autograd.grad(features.sum(), points, create_graph=True)


@compiles
@pytest.mark.slow
@pytest.mark.parametrize("features", [1, 4])
def test_other_numbers_of_features(features):
    layout = HashLayout(
        levels=3, features=features, log2_table=8, base_resolution=3, growth=2.5, smooth=True
    )
    agree(points_and_corners(100, torch.float32), layout)


@compiles
@pytest.mark.slow
def test_linear_weights():
    agree(points_and_corners(100, torch.float32), MIXED_LINEAR)


@compiles
@pytest.mark.slow
def test_products_that_leave_32_bits():
    layout = HashLayout(
        levels=2, features=2, log2_table=22, base_resolution=16, growth=500.0, smooth=True
    )
    assert compiled_hash._grid(layout, CPU).integers.dtype == torch.int64
    agree(points_and_corners(100, torch.float32), layout)


def test_a_table_that_does_not_fit_is_refused():
    points = torch.zeros(1, 3)
    for wrong in (torch.zeros(5, 2), torch.zeros(MIXED.entries, 4), table_of(MIXED)):
        with pytest.raises(ValueError, match=r"a float32 table of at least \[755 2\]"):
            compiled_hash.encode(points, wrong, MIXED)


def test_the_obstacles_are_told_apart(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert compiled_hash.obstacle(CPU) == "there is no C++ compiler 'no-such-compiler'"
    monkeypatch.setattr(compiled_hash, "find_spec", lambda name: None)
    assert compiled_hash.obstacle(torch.device("cuda")) == "triton is not installed"


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ("C++ compile error\n\nOutput:\na.cpp:1: fatal error: no omp.h\n", "fatal error: no omp.h"),
        ("no working compiler\nand a long tail", "no working compiler"),
        ("", "TorchDynamoException('')"),
    ],
)
def test_a_failure_to_compile_says_why(monkeypatch, told, reason):
    def fail(*_):
        raise TorchDynamoException(told)

    monkeypatch.setattr(compiled_hash, "_compiled", lambda kernel: fail)
    with pytest.raises(compiled_hash.CompilationFailed) as caught:
        compiled_hash.try_out(MIXED, CPU)
    assert str(caught.value).endswith(reason)
    assert "\n" not in str(caught.value)
