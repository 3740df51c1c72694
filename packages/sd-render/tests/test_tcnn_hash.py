"""The adapter to tiny-cuda-nn, against a fake of it: there may be no CUDA device here."""

import sys

import pytest
import torch
from torch import Generator

import fake_tinycudann
from hash_reference import MIXED, MIXED_LINEAR
from sd_render.encodings import tcnn_hash
from sd_render.encodings.tcnn_hash import TcnnHash

CUDA = torch.device("cuda")


@pytest.fixture
def fake(monkeypatch):
    fake_tinycudann.install(monkeypatch)


def test_it_is_given_the_layout_in_its_own_words(fake):
    found = TcnnHash(MIXED, Generator().manual_seed(0), CUDA).encoding
    configuration = {
        "otype": "HashGrid",
        "n_levels": 4,
        "n_features_per_level": 2,
        "log2_hashmap_size": 8,
        "base_resolution": 3,
        "per_level_scale": 1.9,
        "interpolation": "Smoothstep",
    }
    assert found.given == (3, configuration, torch.float32)
    assert found.device == CUDA
    assert tcnn_hash.configuration(MIXED_LINEAR)["interpolation"] == "Linear"


def test_its_seed_comes_from_the_generator(fake):
    seeds = [TcnnHash(MIXED, Generator().manual_seed(n), CUDA).encoding.seed for n in (0, 0, 1)]
    assert seeds[0] == seeds[1] != seeds[2]


def test_it_encodes_and_owns_its_parameter(fake):
    encoding = TcnnHash(MIXED, Generator(), CUDA)
    assert encoding(torch.ones(5, 3)).shape == (5, MIXED.width)
    assert list(encoding.state_dict()) == ["encoding.params"]


def test_no_points_have_no_features_and_a_gradient_of_zero(fake):
    encoding, points = TcnnHash(MIXED, Generator(), CUDA), torch.zeros(0, 3, requires_grad=True)
    features = encoding(points)
    assert features.shape == (0, MIXED.width)
    features.sum().backward()
    assert not encoding.encoding.params.grad.any()  # nan is any
    assert points.grad.shape == (0, 3)


def test_nothing_stands_in_its_way_on_cuda(fake):
    assert tcnn_hash.obstacle(CUDA) is None


def test_it_needs_cuda(fake):
    reason = "the scene is on cpu, and it needs a CUDA device"
    assert tcnn_hash.obstacle(torch.device("cpu")) == reason


def test_it_must_be_importable(monkeypatch):
    monkeypatch.setitem(sys.modules, "tinycudann", None)
    assert str(tcnn_hash.obstacle(CUDA)).startswith("it cannot be imported (import of tinycudann ")
