"""JSD on exact priors: its contract, its parts, its texts and what it refuses."""

import pytest
import torch
from torch import Generator

from sd_core.baselines.mix import Mix, MixOptions
from sd_core.baselines.sds import SDS, SDSOptions
from sd_core.building import build_prior, build_stage
from sd_core.condition import Condition, Texts
from sd_core.config import parse_options
from sd_core.errors import ConfigError
from sd_core.experiment import Experiment
from sd_core.guidance import GuidanceContext
from sd_core.inversion import level_at
from sd_core.noising import NoiseSchedule
from sd_core.parameterisation import clean_from_noise
from sd_core.plugins import load_plugins
from sd_core.priors.gaussian_mixture import GaussianMixturePrior
from sd_core.prompts import PromptOptions
from sd_core.step import Step
from sd_core.testing import exact
from sd_core.testing.contracts import GuidanceContract
from sd_core.timesteps import TimestepOptions
from sd_guidance_jsd import jsd as jsd_module
from sd_guidance_jsd.gradients import jsd_gradient, jsd_released_gradient
from sd_guidance_jsd.jsd import JSD
from sd_guidance_jsd.options import InversionOptions, JSDOptions

MIDDLE = Step(50, 100)
DIFFERENT_T = {"schedule": "uniform", "low": 0.02, "high": 0.98}


def options(**values):
    return parse_options(JSDOptions, values, where="guidance")


class TestPaper(GuidanceContract):
    def make(self, context: GuidanceContext) -> JSD:
        return JSD(options(), context)


class TestReleased(GuidanceContract):
    def make(self, context: GuidanceContext) -> JSD:
        return JSD(options(preset="released"), context)


class TestFixedGridAtADifferentTForEachSample(GuidanceContract):
    def make(self, context: GuidanceContext) -> JSD:
        inversion = {"grid": "fixed", "scale": 3, "eta": 0.3, "overshoot": 0.1}
        return JSD(options(timesteps=DIFFERENT_T, inversion=inversion), context)


def jsd(prior, **values):
    return JSD(options(**values), exact.guidance_context(prior))


def gradient(method, latents, step=MIDDLE, seed=0):
    cameras, generator = exact.some_cameras(len(latents)), Generator().manual_seed(seed)
    return method.gradient(latents, cameras, step=step, generator=generator)


def mixture():
    return exact.mixture_prior(channels=2, height=2, width=1, dtype=torch.float64)


def some(prior, count=3):
    return exact.some_latents(prior, count).double()


# Options


def test_the_papers_values_are_the_defaults():
    found = options()
    assert found == JSDOptions()
    assert (found.form, found.scale, found.weight) == ("difference", 13.5, "sigma-squared")
    assert (found.denoise, found.reduction) == ("text", "sum")
    assert found.inversion == InversionOptions(
        steps=10, grid="even", scale=1.0, eta=0.0, overshoot=0.0
    )
    assert found.timesteps == TimestepOptions(schedule="linear-descent", high=0.98, low_end=0.25)


def test_released_begins_with_the_codes_values_and_hears_what_else_is_set():
    found = options(preset="released")
    assert (found.form, found.scale, found.low_density_weight) == ("attraction", 13.5, 1.0)
    assert (found.denoise, found.reduction, found.weight) == ("guided", "mean", "uniform")
    assert found.inversion == InversionOptions(
        steps=10, grid="fixed", scale=-13.5, eta=0.3, overshoot=0.1
    )
    assert found.timesteps == options().timesteps
    mine = options(preset="released", inversion={"eta": 0.0}, form="difference")
    assert (mine.inversion.eta, mine.inversion.scale, mine.form) == (0.0, -13.5, "difference")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"form": "sum"}, r"guidance.form is 'sum', but it should be 'difference' or 'attraction'"),
        ({"inversion": {"steps": 0}}, r"guidance.inversion.steps is 0"),
        ({"inversion": {"overshoot": 1.5}}, r"guidance.inversion.overshoot is 1.5"),
        ({"low_density_weight": -1}, r"guidance.low_density_weight is -1"),
        ({"low_density_weight": 0.3}, r"is 0.3, but the form 'difference' has no such weight"),
        (
            {"preset": "released", "form": "difference", "low_density_weight": 0.0},
            r"is 0.0, but the form 'difference' has no such weight. .* set form to 'attraction'",
        ),
    ],
)
def test_slips_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        options(**values)


@pytest.mark.parametrize("preset", ["paper", "released"])
@pytest.mark.parametrize("form", ["difference", "attraction"])
def test_every_option_told_again_is_taken_as_by_a_resumed_run(preset, form):
    told = options(preset=preset, form=form)
    assert options(**told.model_dump()) == told


def rectified_flow_prior():
    mean, covariance = torch.zeros(1, 2, 1, 1), torch.eye(2)[None]
    return GaussianMixturePrior(mean, covariance, schedule=NoiseSchedule.rectified_flow())


def test_a_t_of_pure_noise_is_refused_since_nothing_can_be_denoised_there():
    prior = rectified_flow_prior()
    with pytest.raises(ConfigError, match=r"t = 999 is pure noise .* Set high of its timesteps be"):
        jsd(prior, timesteps={"high": 1.0})
    pieces = {"schedule": "pieces", "pieces": [[0, 0.02, 0.5], [0.5, 0.02, 1.0]]}
    with pytest.raises(ConfigError, match=r"t = 999 is pure noise .* Set every high of its timest"):
        jsd(prior, timesteps=pieces)
    jsd(prior, timesteps={**pieces, "pieces": [[0, 0.02, 0.5]], "high": 1.0})  # which is not read
    assert gradient(jsd(prior), exact.some_latents(prior, 2)).gradient.isfinite().all()


@pytest.mark.parametrize("eta", [0.0, 0.3])
@pytest.mark.parametrize("grid", ["even", "fixed"])
def test_an_overshoot_stops_before_pure_noise_from_where_no_hop_leads(grid, eta):
    prior, uniform = rectified_flow_prior(), {"schedule": "uniform", "low": 0.02, "high": 0.98}
    inversion = {"grid": grid, "overshoot": 0.5, "eta": eta}
    method, latents = jsd(prior, timesteps=uniform, inversion=inversion), some(prior, 4)
    for i in range(20):
        assert gradient(method, latents, Step(i, 20), seed=i).gradient.isfinite().all()


# The gradients


@pytest.mark.parametrize("denoise", ["text", "guided"])
@pytest.mark.parametrize("form", ["difference", "attraction"])
def test_a_gradient_is_its_formula_at_the_two_samples(form, denoise):
    """Taken apart and put together again by hand, from the sample that it says it judged."""
    prior = mixture()
    pull = {"low_density_weight": 0.3} if form == "attraction" else {}
    method = jsd(prior, form=form, denoise=denoise, **pull)
    latents = some(prior)
    # The inversion draws nothing, so the first draw is the fresh noise.
    fresh = torch.randn(latents.shape, generator=Generator().manual_seed(0), dtype=latents.dtype)
    guided = gradient(method, latents)
    inverted, t = guided.observed.noised.noisy, guided.t
    text, nothing = (prior.encode_text([words] * 3) for words in (exact.PROMPT, ""))
    alpha, sigma = level_at(prior.schedule, t, latents)

    def ask(noisy, scale):
        told, untold = (prior.predict_noise(noisy, t, words) for words in (text, nothing))
        return untold + scale * (told - untold)

    denoising = ask(inverted, 1.0 if denoise == "text" else 13.5)
    minority = inverted - sigma * denoising + sigma * fresh
    if form == "difference":
        expected = jsd_gradient(
            ask(inverted, 13.5), ask(minority, 13.5), sigma**2, alpha=alpha, sigma=sigma
        )
    else:
        high, low = (
            clean_from_noise(noisy, ask(noisy, 13.5), alpha=alpha, sigma=sigma)
            for noisy in (inverted, minority)
        )
        released = jsd_released_gradient(latents, high, low, low_density_weight=0.3)
        expected = 4 * sigma**2 * released  # four elements, not averaged
    torch.testing.assert_close(guided.gradient, expected, rtol=1e-8, atol=1e-8)


def test_mean_divides_by_the_elements_of_a_sample():
    prior = mixture()
    one, other = (
        gradient(jsd(prior, reduction=reduction), some(prior)) for reduction in ("sum", "mean")
    )
    torch.testing.assert_close(one.gradient, 4 * other.gradient)


class SaysTheSame(GaussianMixturePrior):
    """A prior whose answer knows the text and the time, but not the sample."""

    def predict_noise(self, noisy, t, condition):
        told = condition.tensors["log_weights"].exp()[:, :1, None, None]
        return torch.ones_like(noisy) * told * (1 + t.view(-1, 1, 1, 1))


def test_equal_predictions_at_both_samples_leave_exactly_nothing_of_the_papers_gradient():
    mean, covariance = torch.zeros(2, 2, 1, 1), torch.eye(2).expand(2, 2, 2)
    prior = SaysTheSame(mean, covariance, prompts=[[exact.PROMPT], ["a blue fox"]])
    latents = exact.some_latents(prior, 3)
    assert torch.equal(gradient(jsd(prior), latents).gradient, torch.zeros_like(latents))
    assert gradient(jsd(prior, form="attraction"), latents).gradient.abs().min() > 0


def test_where_the_fresh_noise_is_what_the_prior_said_the_papers_gradient_is_0(monkeypatch):
    """Then x̄_t is x̂_t. With the guided ε̂ for the denoising, on a prior that reads the sample."""
    prior = mixture()
    method = jsd(prior, denoise="guided")
    said = []

    def guided_and_text(*given, **told):
        said.append(ask(*given, **told)[0])
        return said[-1], said[-1]

    ask = prior.predict_guided_and_text
    monkeypatch.setattr(prior, "predict_guided_and_text", guided_and_text)
    monkeypatch.setattr(jsd_module, "standard_normal", lambda like, generator: said[0])
    latents = some(prior)
    found = gradient(method, latents).gradient
    torch.testing.assert_close(found, torch.zeros_like(latents), rtol=0, atol=1e-9)
    monkeypatch.undo()
    assert gradient(method, latents).gradient.abs().min() > 1e-4


def test_at_k_zero_the_attraction_forgets_the_minority_sample():
    prior = mixture()
    alone = jsd(prior, form="attraction", low_density_weight=0.0)
    draws = [gradient(alone, some(prior), seed=seed).gradient for seed in (0, 1)]
    assert torch.equal(*draws)
    both = jsd(prior, form="attraction")
    draws = [gradient(both, some(prior), seed=seed).gradient for seed in (0, 1)]
    assert not torch.allclose(*draws, rtol=0.1)


def test_released_at_k_zero_is_the_loss_of_sdis_code():
    """½·mean((z − x̂0)²) of one sample, whose gradient is (z − x̂0)/N."""
    prior = mixture()
    sdi = jsd(prior, preset="released", low_density_weight=0.0)
    found = gradient(sdi, some(prior))
    noised = found.observed.noised
    alpha, sigma = level_at(prior.schedule, found.t, noised.noisy)
    texts = Texts(prior.encode_text([exact.PROMPT] * 3), prior.encode_text([""] * 3))
    guided = prior.predict_guided(noised.noisy, found.t, texts, scale=sdi.config.scale)
    clean = clean_from_noise(noised.noisy, guided, alpha=alpha, sigma=sigma)
    expected = (noised.clean - clean) / noised.clean[0].numel()
    torch.testing.assert_close(found.gradient, expected, rtol=1e-9, atol=1e-12)


def test_t_descends_as_in_the_released_code():
    prior = mixture()
    found = [int(gradient(jsd(prior), some(prior), Step(i, 100)).t[0]) for i in (0, 50, 99)]
    assert found == [980, 615, 257]


# Texts


class Remembers(GaussianMixturePrior):
    """What it was told, call by call."""

    def predict_noise(self, noisy, t, condition: Condition):
        self.told.append(condition.prompts)
        return super().predict_noise(noisy, t, condition)


@pytest.mark.parametrize("preset", ["paper", "released"])
def test_the_inversion_and_both_samples_read_the_text_of_their_view(preset):
    prior = Remembers(torch.zeros(1, 2, 1, 1), torch.eye(2)[None])
    prior.told = []
    prompt = PromptOptions(text="a cat", negative="ugly")
    method = JSD(options(preset=preset), GuidanceContext(prior, prompt, find=None))
    gradient(method, exact.some_latents(prior, 4))
    views = tuple(f"a cat, {view} view" for view in ("front", "side", "back", "side"))
    guided = ("ugly",) * 4 + views
    if preset == "paper":  # the inversion is not guided
        assert prior.told == [views] * 10 + [guided] * 2
    else:  # at t = 615
        assert prior.told == [guided] * (8 + 2)


# Parts for others


def mixed(prior, weight, jsd_options=None, **parts):
    def find(name, told):
        if name == "sds":
            return SDS(SDSOptions(**told), context)
        return JSD(options(**told), context)

    context = GuidanceContext(prior, PromptOptions(text=exact.PROMPT), find=find)
    parts = {"noising": "jsd", "target": "jsd", "source": "jsd", **parts}
    table = {"weight": weight, "options": {"jsd": jsd_options or {}}, **parts}
    return Mix(parse_options(MixOptions, table, where="guidance"), context)


def test_all_parts_in_a_mix_are_the_method():
    prior = mixture()
    latents = some(prior)
    whole, parts = jsd(prior), mixed(prior, "alpha-sigma")
    torch.testing.assert_close(gradient(whole, latents).gradient, gradient(parts, latents).gradient)
    whole = jsd(prior, form="attraction", weight="uniform")
    parts = mixed(prior, "sigma-over-alpha", {"form": "attraction"})
    torch.testing.assert_close(
        gradient(whole, latents).gradient, 2 * gradient(parts, latents).gradient
    )


def test_its_noising_serves_other_methods():
    prior = mixture()
    method = mixed(prior, "sigma-squared", target="sds", source="sds")
    assert gradient(method, some(prior)).gradient.isfinite().all()


@pytest.mark.parametrize("part", ["target", "source"])
def test_its_sides_are_refused_at_samples_of_another_method(part):
    others = {"noising": "sds", "target": "sds", "source": "sds", part: "jsd"}
    with pytest.raises(ConfigError, match=rf"the {part} of 'jsd' is only right .*noising=jsd"):
        mixed(mixture(), "uniform", **others)


def test_an_installed_experiment_finds_it_and_logs_its_calls():
    table = {
        "prompt": "anything",
        "prior": {"name": "gaussian-mixture"},
        "stages": [{"steps": 2, "guidance": {"name": "jsd", "preset": "released"}}],
    }
    experiment = Experiment(table, load_plugins())
    prior = build_prior(experiment)
    stage = build_stage(experiment, 0, prior, previous=None)
    found = [report.logs["unet_calls"] for report in stage.distill(prior)]
    assert found == [2 * (11 + 2), 2 * (8 + 2)]  # at t = 980 and 615
