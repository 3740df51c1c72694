"""The camera condition on a time embedding of its own: added where asked for, absent elsewhere."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from sd_core.cameras import turntable
from sd_core.errors import ConfigError
from sd_core.priors.diffusion.camera_condition import CameraCondition

BATCH = 3
CAMERAS = turntable(BATCH)
ALL = torch.ones(BATCH, dtype=torch.bool)
T = torch.randn(BATCH, 4, generator=torch.Generator().manual_seed(1))


class Network(nn.Module):
    """As much of a UNet as the camera is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.time_embedding = nn.Sequential(nn.Linear(4, 8), nn.SiLU(), nn.Linear(8, 8))

    def forward(self, t: Tensor) -> Tensor:
        embedding: Tensor = self.time_embedding(t)
        return embedding


@pytest.fixture(autouse=True)
def _own_random_state() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture
def network() -> Network:
    return Network()


def test_the_zero_start_adds_nothing(network: Network) -> None:
    condition, before = CameraCondition(network, start="zero"), network(T)
    with condition.shown_to(CAMERAS, ALL):
        assert torch.equal(network(T), before)


def test_the_random_start_tells_cameras_apart(network: Network) -> None:
    condition, before = CameraCondition(network, start="random"), network(T)
    with condition.shown_to(CAMERAS, ALL):
        added = network(T) - before
    assert (added[0] - added[1]).abs().max() > 0.01


def test_the_term_is_the_mlp_of_the_flattened_pose(network: Network) -> None:
    condition, before = CameraCondition(network, start="random"), network(T)
    first, _, last = condition.mlp
    hidden = CAMERAS.camera_to_world.reshape(BATCH, 16) @ first.weight.T + first.bias
    expected = (hidden * hidden.sigmoid()) @ last.weight.T + last.bias
    with condition.shown_to(CAMERAS, ALL):
        torch.testing.assert_close(network(T), before + expected)


def test_a_camera_free_sample_keeps_its_bits(network: Network) -> None:
    condition, before = CameraCondition(network, start="random"), network(T)
    with condition.shown_to(CAMERAS, torch.tensor([True, False, True])):
        after = network(T)
    assert torch.equal(after[1], before[1])
    assert not torch.equal(after[0], before[0])


def test_outside_its_calls_the_network_keeps_its_bits(network: Network) -> None:
    before = network(T)
    condition = CameraCondition(network, start="random")
    assert torch.equal(network(T), before)
    with pytest.raises(KeyError), condition.shown_to(CAMERAS, ALL):
        raise KeyError
    assert torch.equal(network(T), before)


def test_two_conditions_on_one_network_are_apart(network: Network) -> None:
    before = network(T)
    first, second = (CameraCondition(network, start=start) for start in ("random", "zero"))
    with second.shown_to(CAMERAS, ALL):
        assert torch.equal(network(T), before)
    with first.shown_to(CAMERAS, ALL):
        assert not torch.equal(network(T), before)


def test_its_state_is_the_mlp_alone(network: Network) -> None:
    condition = CameraCondition(network, start="zero")
    assert all(name.startswith("mlp.") for name in condition.state_dict())
    assert condition.mlp[0].in_features == 16
    assert condition.mlp[2].out_features == 8


def test_a_network_in_half_precision_keeps_its_type(network: Network) -> None:
    network.to(torch.bfloat16)
    condition = CameraCondition(network, start="random")
    with condition.shown_to(CAMERAS, ALL):
        embedding = network(T.to(torch.bfloat16))
    assert embedding.dtype == torch.bfloat16
    (slope,) = torch.autograd.grad(embedding.float().sum(), condition.mlp[2].weight)
    assert slope.dtype == torch.float32 and slope.abs().sum() > 0


def test_a_network_without_a_time_embedding_is_refused() -> None:
    with pytest.raises(ConfigError, match="a Linear has no time embedding to add the camera to"):
        CameraCondition(nn.Linear(2, 2), start="zero")
