"""The schedules against published numbers and closed forms; x_t = α·x0 + σ·ε to the bit."""

import math

import pytest
import torch
from torch import Tensor

from sd_core.noising import Noised, NoiseSchedule, add_noise, draw

SCHEDULES = {
    "scaled-linear": NoiseSchedule.scaled_linear(),
    "linear": NoiseSchedule.linear(),
    "rectified-flow": NoiseSchedule.rectified_flow(),
    "shifted-flow": NoiseSchedule.rectified_flow(shift=3.0),
}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def latents(batch: int = 3) -> Tensor:
    return torch.randn(batch, 4, 5, 6, generator=generator(7), dtype=torch.float64)


@pytest.mark.parametrize(
    ("t", "cumulative"), [(20, 0.981), (250, 0.674), (500, 0.276), (750, 0.056), (980, 0.0058)]
)
def test_scaled_linear_is_the_schedule_of_stable_diffusion(t: int, cumulative: float) -> None:
    alpha = float(NoiseSchedule.scaled_linear().alphas[t])
    assert alpha**2 == pytest.approx(cumulative, abs=0.0006)


def test_linear_is_the_product_of_ddpm_betas() -> None:
    schedule = NoiseSchedule.linear(steps=10)
    product = 1.0
    for t in range(10):
        product *= 1 - (1e-4 + (0.02 - 1e-4) * t / 9)
        assert float(schedule.alphas[t]) == pytest.approx(math.sqrt(product), abs=1e-14)


def test_scaled_linear_is_linear_in_the_root_of_beta() -> None:
    alphas = NoiseSchedule.scaled_linear(steps=50).alphas
    betas = 1 - (alphas[1:] / alphas[:-1]).square()
    torch.testing.assert_close(betas.sqrt().diff(), betas.sqrt().diff()[:1].expand(48))


@pytest.mark.parametrize("name", ["scaled-linear", "linear"])
def test_diffusion_schedules_preserve_variance(name: str) -> None:
    schedule = SCHEDULES[name]
    total = schedule.alphas.square() + schedule.sigmas.square()
    torch.testing.assert_close(total, torch.ones(1000, dtype=torch.float64), atol=1e-14, rtol=0)


@pytest.mark.parametrize("name", ["rectified-flow", "shifted-flow"])
def test_rectified_flow_weights_sum_to_one_and_end_in_pure_noise(name: str) -> None:
    schedule = SCHEDULES[name]
    total = schedule.alphas + schedule.sigmas
    torch.testing.assert_close(total, torch.ones(1000, dtype=torch.float64), atol=1e-15, rtol=0)
    assert float(schedule.sigmas[-1]) == 1.0
    assert float(schedule.alphas[-1]) == 0.0


def test_shift_one_leaves_the_flow_uniform() -> None:
    torch.testing.assert_close(
        NoiseSchedule.rectified_flow(steps=4).sigmas,
        torch.tensor([0.25, 0.5, 0.75, 1.0], dtype=torch.float64),
    )


def test_shift_multiplies_the_ratio_of_noise_to_signal() -> None:
    plain, shifted = NoiseSchedule.rectified_flow(), NoiseSchedule.rectified_flow(shift=3.0)
    ratio = (shifted.sigmas / shifted.alphas) / (plain.sigmas / plain.alphas)
    torch.testing.assert_close(ratio[:-1], torch.full((999,), 3.0, dtype=torch.float64))


def test_a_schedulers_cumulative_product_gives_its_roots() -> None:
    for values in ([0.9, 0.5, 0.1], torch.tensor([0.9, 0.5, 0.1], dtype=torch.float64)):
        schedule = NoiseSchedule.from_alphas_cumprod(values)
        assert schedule.alphas.tolist() == pytest.approx([math.sqrt(a) for a in (0.9, 0.5, 0.1)])
        assert schedule.sigmas.tolist() == pytest.approx([math.sqrt(s) for s in (0.1, 0.5, 0.9)])


def test_float32_numbers_of_a_scheduler_become_float64() -> None:
    schedule = NoiseSchedule.from_alphas_cumprod(torch.tensor([0.9, 0.5]))
    assert schedule.alphas.dtype == torch.float64
    assert len(schedule) == 2


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_has_the_length_asked_for(name: str) -> None:
    assert len(SCHEDULES[name]) == 1000


def test_levels_follow_t_and_take_dtype_and_shape_from_the_latents() -> None:
    schedule = NoiseSchedule.scaled_linear()
    t = torch.tensor([999, 0, 500])
    for dtype in (torch.float16, torch.float32, torch.float64):
        like = torch.zeros(3, 1, 2, 2, dtype=dtype)
        for level, values in (
            (schedule.alpha(t, like), schedule.alphas),
            (schedule.sigma(t, like), schedule.sigmas),
        ):
            assert level.shape == (3, 1, 1, 1)
            assert level.dtype == dtype
            assert torch.equal(level.flatten(), values[t].to(dtype))


@pytest.mark.parametrize("name", SCHEDULES)
def test_adding_noise_is_the_printed_formula(name: str) -> None:
    schedule, clean, t = SCHEDULES[name], latents(), torch.tensor([3, 500, 998])
    noise = torch.randn(clean.shape, generator=generator(1), dtype=clean.dtype)
    noisy = add_noise(schedule, clean, noise, t)
    for i in range(3):
        alpha, sigma = float(schedule.alphas[t[i]]), float(schedule.sigmas[t[i]])
        torch.testing.assert_close(
            noisy[i], alpha * clean[i] + sigma * noise[i], atol=1e-14, rtol=0
        )


def test_drawn_noise_is_one_plain_randn_of_the_generator() -> None:
    schedule, clean, t = NoiseSchedule.scaled_linear(), latents(), torch.tensor([3, 500, 998])
    noised = draw(schedule, clean, t, generator(5))
    expected = torch.randn(clean.shape, generator=generator(5), dtype=clean.dtype)
    assert torch.equal(noised.noise, expected)
    assert torch.equal(noised.noisy, add_noise(schedule, clean, expected, t))
    assert noised.clean is clean
    assert noised.t is t


def test_drawing_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    draw(NoiseSchedule.scaled_linear(), latents(), torch.tensor([3, 500, 998]), generator())
    assert torch.equal(torch.get_rng_state(), before)


def test_variance_of_unit_latents_stays_one() -> None:
    clean = torch.randn(4, 4, 64, 64, generator=generator(1), dtype=torch.float64)
    t = torch.tensor([10, 300, 600, 990])
    noised = draw(NoiseSchedule.scaled_linear(), clean, t, generator(2))
    # The standard error of a variance over 16384 values is 0.011.
    torch.testing.assert_close(
        noised.noisy.var((1, 2, 3)), torch.ones(4, dtype=torch.float64), atol=0.05, rtol=0
    )


def test_repeat_puts_whole_batches_one_after_the_other() -> None:
    noised = draw(NoiseSchedule.linear(), latents(2), torch.tensor([4, 9]), generator())
    repeated = noised.repeat(3)
    assert len(noised) == 2
    assert len(repeated) == 6
    for field in ("clean", "noise", "t", "noisy"):
        for copy in getattr(repeated, field).chunk(3):
            assert torch.equal(copy, getattr(noised, field))


def test_repeat_once_is_the_same_batch() -> None:
    noised = draw(NoiseSchedule.linear(), latents(2), torch.tensor([4, 9]), generator())
    assert torch.equal(noised.repeat(1).noisy, noised.noisy)


def test_noised_batches_are_compared_by_identity() -> None:
    clean, t = latents(1), torch.tensor([0])
    first, second = Noised(clean, clean, t, clean), Noised(clean, clean, t, clean)
    assert first != second
    assert len({first, second}) == 2


def double(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(
    ("alphas", "sigmas", "message"),
    [
        (double(0.9, 0.5).reshape(1, 2), double(0.1, 0.5), r"alphas has shape \(1, 2\)"),
        (double(0.9, 0.5), double(), r"sigmas has shape \(0,\)"),
        (double(0.9, 0.5), double(0.1, 0.5).float(), "sigmas is torch.float32"),
        (double(0.9, math.nan), double(0.1, 0.5), "alphas holds a value that is not finite"),
        (double(0.9, 0.5), double(0.1, math.inf), "sigmas holds a value that is not finite"),
        (double(0.9, 0.5), double(0.1, 0.5, 0.9), "2 alphas, but 3 sigmas"),
        (double(0.5, 0.9), double(0.1, 0.5), "alphas must decrease"),
        (double(0.5, -0.1), double(0.1, 0.5), "alphas must decrease"),
        (double(0.9, 0.5), double(0.5, 0.1), "sigmas must increase"),
        (double(0.9, 0.5), double(0.0, 0.1), "sigmas must increase"),
    ],
)
def test_a_malformed_schedule_is_refused(alphas: Tensor, sigmas: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NoiseSchedule(alphas=alphas, sigmas=sigmas)


def test_a_cumulative_product_outside_zero_to_one_is_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        NoiseSchedule.from_alphas_cumprod([1.2, 0.5])


def test_a_shift_that_is_not_positive_is_refused() -> None:
    with pytest.raises(ValueError, match="shift is 0"):
        NoiseSchedule.rectified_flow(shift=0.0)
