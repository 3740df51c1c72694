"""USD on a tiny Stable Diffusion: its passes, its three slopes, and what was released."""

from dataclasses import replace

import pytest
import torch
from torch import Generator
from torch.nn.functional import adaptive_avg_pool2d

pytest.importorskip("diffusers")

from sd_core.baselines.vsd import VSD, VSDOptions
from sd_core.config import parse_options
from sd_core.step import Step
from sd_core.testing import exact
from sd_core.testing.tiny_pipelines import counted_calls, save_tiny_pipeline, tiny_prior
from sd_guidance_usd.options import USDOptions
from sd_guidance_usd.usd import USD

BATCH, SCALE = 2, 7.5
CAMERAS = exact.some_cameras(BATCH)
STEP = Step(0, 10)
LEFT = torch.linspace(0.9, 0.55, 10)
SEEN = torch.stack([LEFT, 1 - LEFT], dim=1)  # left more often, most so at small t


class Corners:
    """Which half is brighter, and by how much: not linear, so that its slope depends on where."""

    classes = ("left", "right")

    def __call__(self, images):
        half = images.shape[-1] // 2
        differ = images[..., :half].mean(dim=(1, 2, 3)) - images[..., half:].mean(dim=(1, 2, 3))
        left = (5 * differ).sigmoid()
        return torch.stack([left, 1 - left], dim=1)


corners = Corners()


@pytest.fixture(scope="module")
def prior(tmp_path_factory):
    return tiny_prior(save_tiny_pipeline(tmp_path_factory.mktemp("models") / "sd1", "sd1"))


def usd(prior, **values):
    values = {"classifier": {"kind": "test_usd_on_a_network:corners"}, "limit": "none", **values}
    method = USD(parse_options(USDOptions, values, where="guidance"), exact.guidance_context(prior))
    method.marginal.shares.copy_(SEEN)
    return method


def answer(method, prior):
    latents = exact.some_latents(prior, BATCH, 1)
    return method.gradient(latents, CAMERAS, step=STEP, generator=Generator().manual_seed(0))


def guided_noise(prior, method, noisy, t):
    """By raw calls: one for each text."""
    told, nothing = (
        prior.predict_noise(noisy, t, prior.encode_text([text] * BATCH))
        for text in (method.prompt.text, "")
    )
    return nothing + SCALE * (told - nothing)


def rectifier(images, t):
    return (corners(images) * 0.5 / SEEN[t // 100]).sum(dim=1).log().sum()


def slope_by_hand(prior, method, noised, jacobian, judged="text"):
    alpha = prior.schedule.alpha(noised.t, noised.noisy)
    sigma = prior.schedule.sigma(noised.t, noised.noisy)
    noisy = noised.noisy.detach().clone().requires_grad_()
    if judged == "guided":
        noise = guided_noise(prior, method, noisy, noised.t)
    else:
        texts = prior.encode_text([method.prompt.text] * BATCH)
        noise = prior.predict_noise(noisy, noised.t, texts)
    clean = (noisy - sigma * noise) / alpha
    if jacobian == "full":
        return torch.autograd.grad(rectifier(prior.decode(clean), noised.t), noisy)[0]
    clean = clean.detach().requires_grad_()
    if jacobian == "vae":
        return alpha * torch.autograd.grad(rectifier(prior.decode(clean), noised.t), clean)[0]
    images = prior.decode(clean).detach().requires_grad_()
    (slope,) = torch.autograd.grad(rectifier(images, noised.t), images)
    places = clean.detach().movedim(1, -1).reshape(-1, clean.shape[1]).double()
    colours = adaptive_avg_pool2d(images.detach(), clean.shape[-2:]).movedim(1, -1).reshape(-1, 3)
    centred = places - places.mean(dim=0)  # least squares with a constant, by normal equations
    mapping = torch.linalg.solve(
        centred.T @ centred, centred.T @ (colours - colours.mean(dim=0)).double()
    )
    patches = adaptive_avg_pool2d(slope, clean.shape[-2:]) * 4  # sums over 2 × 2 pixels
    return alpha * (patches.movedim(1, -1) @ mapping.T.float()).movedim(-1, 1)


@pytest.mark.parametrize(
    ("jacobian", "judged"),
    [("full", "text"), ("vae", "text"), ("none", "text"), ("full", "guided"), ("vae", "guided")],
)
def test_the_gradient_is_the_formula_computed_from_raw_calls(prior, jacobian, judged):
    method = usd(prior, jacobian=jacobian, judged=judged, scale=SCALE)
    guided = answer(method, prior)
    noised = guided.observed.noised
    sigma = prior.schedule.sigma(noised.t, noised.noisy)
    source = guided.observed.source["predicted"].detach()
    with torch.no_grad():
        target = guided_noise(prior, method, noised.noisy, noised.t)
    slope = slope_by_hand(prior, method, noised, jacobian, judged)
    expected = sigma**2 * (target - sigma * slope - source)
    torch.testing.assert_close(guided.gradient, expected, rtol=1e-3, atol=1e-5)
    told = method.target(noised, CAMERAS, step=STEP, generator=Generator())
    small = 1e-3 * float((sigma * slope).abs().max())
    torch.testing.assert_close(told.correction.noise, -sigma * slope, rtol=1e-3, atol=small)
    assert small > 0


@pytest.mark.parametrize("judged", ["text", "guided"])
@pytest.mark.parametrize("jacobian", ["full", "vae", "none"])
def test_where_r_has_no_slope_it_is_vsd_to_the_bit(prior, jacobian, judged):
    told = {"classifier": {"kind": "test_usd:undecided"}, "auxiliary": ""}
    method = usd(prior, **told, jacobian=jacobian, judged=judged)
    within = exact.guidance_context(prior)
    plain = replace(within, prompt=within.prompt.model_copy(update={"views": "none"}))
    vsd = VSD(VSDOptions(timesteps=method.config.timesteps), plain)
    assert torch.equal(answer(method, prior).gradient, answer(vsd, prior).gradient)


def test_released_judges_the_pose_at_a_noise_of_its_own_and_makes_both_parts_equally_long(prior):
    """methods.md 5.2, for one sample: t of the scene, a second noise, ‖g_u‖ = ‖g_v‖."""
    method = usd(prior, preset="released", limit="equal", scale=SCALE)
    assert method.config.second_noise and method.config.timesteps.schedule == "hard-switch"
    guided = answer(method, prior)
    noised = guided.observed.noised
    generator = Generator().manual_seed(0)
    torch.randint(20, 981, (BATCH,), generator=generator)  # t
    noises = [torch.randn(noised.noisy.shape, generator=generator) for _ in range(2)]
    torch.testing.assert_close(noises[0], noised.noise)

    alpha = prior.schedule.alpha(noised.t, noised.noisy)
    sigma = prior.schedule.sigma(noised.t, noised.noisy)
    again = type(noised)(
        noised.clean, noises[1], noised.t, alpha * noised.clean + sigma * noises[1]
    )
    source = guided.observed.source["predicted"].detach()
    with torch.no_grad():
        plain = sigma**2 * (guided_noise(prior, method, noised.noisy, noised.t) - source)
    rectified = -(sigma**3) * slope_by_hand(prior, method, again, "full", "guided")
    lengths = [each.flatten(1).norm(dim=1).view(-1, 1, 1, 1) for each in (plain, rectified)]
    expected = plain + rectified * lengths[0] / lengths[1]
    torch.testing.assert_close(guided.gradient, expected, rtol=1e-3, atol=1e-5)


def test_the_prompt_has_the_papers_words_of_several_views(prior):
    assert usd(prior).prompt.text == f"{exact.PROMPT}, from side view, from back view."
    assert usd(prior, auxiliary="").prompt.text == exact.PROMPT


@pytest.mark.parametrize("jacobian", ["full", "vae", "none"])
def test_it_asks_the_network_as_often_as_vsd(prior, jacobian):
    method = usd(prior, jacobian=jacobian)
    with counted_calls(prior.network) as calls:
        answer(method, prior)
    assert calls == [2 * BATCH, BATCH]
    twice = usd(prior, jacobian=jacobian, second_noise=True)
    with counted_calls(prior.network) as calls:
        answer(twice, prior)
    assert calls == [2 * BATCH, 2 * BATCH, BATCH]


def test_the_network_gathers_no_gradients(prior):
    answer(usd(prior), prior)
    assert all(each.grad is None for each in prior.network.parameters())


@pytest.mark.parametrize("jacobian", ["full", "vae", "none"])
def test_the_options_name_what_the_gradient_goes_back_through(prior, jacobian, monkeypatch):
    """The plan of memory of `score-distill doctor` believes them."""
    gone = set()

    def watched(ask, part):
        def call(*arguments, **told):
            found = ask(*arguments, **told)
            for each in [found] if torch.is_tensor(found) else found:
                if each.requires_grad:
                    each.register_hook(lambda _: gone.add(part))
            return found

        return call

    for name, part in (("decode", "decoder"), ("predict_noises", "network")):
        monkeypatch.setattr(prior, name, watched(getattr(prior, name), part))
    method = usd(prior, jacobian=jacobian)
    answer(method, prior)
    assert method.config.backward_through() == gone
