"""Where a network attends to the words, against the layers' own weights by hand."""

import pytest
import torch
from torch import Generator
from torch.nn.functional import interpolate

pytest.importorskip("diffusers")

from sd_core.noising import draw
from sd_core.testing import exact
from sd_core.testing.tiny_pipelines import FAMILIES, save_tiny_pipeline, tiny_prior

PROMPT = "a red bear"


@pytest.fixture(scope="module", params=FAMILIES)
def prior(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / request.param
    return tiny_prior(save_tiny_pipeline(folder, request.param))


def pictures():
    return torch.rand(2, 3, 16, 16, generator=Generator().manual_seed(1))


class Recorder:
    """diffusers' own attention, which tells what it is asked, too."""

    def __init__(self, layer, heard):
        self.own, self.heard = layer.processor, heard

    def __call__(self, layer, hidden, encoder_hidden_states=None, *rest, **named):
        self.heard.append((layer, hidden, encoder_hidden_states))
        return self.own(layer, hidden, encoder_hidden_states, *rest, **named)


def by_hand(prior, images):
    """One head and one picture at a time."""
    heard = []
    layers = [m for name, m in prior.network.named_modules() if name.endswith("attn2")]
    assert layers
    before = [layer.processor for layer in layers]
    for layer in layers:
        layer.processor = Recorder(layer, heard)
    latents, t = prior.encode(images), torch.tensor([10, 10])
    noisy = draw(prior.schedule, latents, t, Generator().manual_seed(0)).noisy
    prior.predict_noise(noisy, t, prior.encode_text([PROMPT] * 2))
    for layer, processor in zip(layers, before, strict=True):
        layer.processor = processor
    maps = []
    for layer, hidden, text in heard:
        query, key = hidden @ layer.to_q.weight.T, text @ layer.to_k.weight.T
        depth = query.shape[-1] // layer.heads
        for picture in range(2):
            shares = []
            for head in range(layer.heads):
                own = slice(head * depth, (head + 1) * depth)
                alike = query[picture, :, own] @ key[picture, :, own].T / depth**0.5
                shares.append(1 - alike.softmax(dim=1)[:, 0])
            side = int(hidden.shape[1] ** 0.5)
            flat = torch.stack(shares).mean(dim=0).view(1, 1, side, side)
            maps.append(interpolate(flat, latents.shape[2:], mode="bilinear")[0, 0])
    return torch.stack(maps).unflatten(0, (-1, 2)).mean(dim=0)


@torch.no_grad()
def test_saliency_is_the_attention_that_the_texts_start_does_not_have(prior):
    found = prior.saliency(pictures(), PROMPT)
    assert found.std() > 1e-4
    torch.testing.assert_close(found, by_hand(prior, pictures()), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(found, prior.saliency(pictures(), "a blue fox"))


def test_asking_leaves_nothing_behind(prior):
    noisy, t = exact.some_latents(prior, 2), torch.tensor([5, 700])
    condition = prior.encode_text([PROMPT] * 2)
    before = prior.predict_noise(noisy, t, condition)
    first, again = (prior.saliency(pictures(), PROMPT) for _ in range(2))
    assert torch.equal(first, again)
    assert torch.equal(prior.predict_noise(noisy, t, condition), before)
    assert not any(module._forward_pre_hooks for module in prior.network.modules())


def test_a_compiled_network_is_asked_as_it_is(tmp_path):
    prior = tiny_prior(save_tiny_pipeline(tmp_path / "model", "sd1"))
    plain = prior.saliency(pictures(), PROMPT)
    prior.network.compile(backend="eager")
    assert torch.equal(prior.saliency(pictures(), PROMPT), plain)
    assert torch.equal(prior.saliency(pictures(), PROMPT), plain)


def test_an_exact_prior_has_no_attention():
    assert exact.mixture_prior().saliency(pictures(), PROMPT) is None
