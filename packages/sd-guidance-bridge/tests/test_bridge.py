"""The bridge: its texts, its phases, and where it moves samples, on exact priors."""

from dataclasses import replace

import pytest
import torch
from torch import Generator

from sd_core.baselines.sds import SDS, SDSOptions
from sd_core.building import build_prior
from sd_core.config import parse_options
from sd_core.errors import ConfigError
from sd_core.experiment import Experiment
from sd_core.guidance import GuidanceContext
from sd_core.plugins import load_plugins
from sd_core.priors.gaussian_mixture import GaussianMixturePrior
from sd_core.prompts import PromptOptions, view_texts
from sd_core.run_folder import RunFolder
from sd_core.runner import Start, Stop, find_start, run_stages
from sd_core.step import Step
from sd_core.testing import exact
from sd_core.testing.contracts import GuidanceContract
from sd_guidance_bridge.bridge import Bridge, phase_at, texts_for
from sd_guidance_bridge.options import BridgeOptions
from sd_guidance_bridge.texts import ARTIFACTS, with_words, without_words

ALWAYS = {"switch_at": 0}
FULL = {"switch_at": 0, "full_path": {"start": 0, "steps": 4}}


def options(**values):
    return parse_options(BridgeOptions, values, where="guidance")


class TestBeforeTheSwitch(GuidanceContract):
    def make(self, context: GuidanceContext) -> Bridge:
        return Bridge(options(source_text="a blue fox"), context)


class TestBridge(GuidanceContract):
    def make(self, context: GuidanceContext) -> Bridge:
        return Bridge(options(**ALWAYS, source_text="a blue fox"), context)


class TestLearnedSource(GuidanceContract):
    def make(self, context: GuidanceContext) -> Bridge:
        return Bridge(options(**ALWAYS, source="estimator", bridge_scale=7.5), context)


class TestFullPath(GuidanceContract):
    def make(self, context: GuidanceContext) -> Bridge:
        return Bridge(options(**FULL, source="null"), context)


def bridge(prior, text=exact.PROMPT, **values):
    find = exact.guidance_context(prior).find
    return Bridge(options(**values), GuidanceContext(prior, PromptOptions(text=text), find))


BEGIN = Step(0, 100)


def gradient(method, latents, step=BEGIN):
    cameras, generator = exact.some_cameras(len(latents)), Generator().manual_seed(0)
    return method.gradient(latents, cameras, step=step, generator=generator).gradient


# Texts


def reads_anything():
    """A prior that knows no prompt from another."""
    return GaussianMixturePrior(torch.zeros(1, 2, 1, 1), torch.eye(2)[None])


def told(text="a red bear", **values):
    return texts_for(options(**values), text)


def test_the_source_says_the_artifacts_and_does_not_praise():
    found = told("a castle, Highly Detailed, at night, 4K")
    assert found["source"] == "a castle, at night, " + ", ".join(ARTIFACTS)
    assert found["target"] == found["sds"] == "a castle, Highly Detailed, at night, 4K"
    assert ", ".join(ARTIFACTS) == (
        "oversaturated, smooth, pixelated, cartoon, foggy, hazy, blurry, bad structure, noisy, "
        "malformed"
    )


def test_view_words_come_after_the_artifacts():
    method = bridge(reads_anything(), artifacts=["smooth", "blurry"], domain="painting")
    found = view_texts(method.source_prompt, exact.some_cameras(4))
    assert found[1] == "a red bear, smooth, blurry, painting, side view"
    assert view_texts(method.target_prompt, exact.some_cameras(4))[1] == "a red bear, side view"


def test_texts_may_be_written_by_hand():
    found = told(source_text="an oil painting", target_text="a photo")
    assert found == {"sds": "a photo", "source": "an oil painting", "target": "a photo"}
    assert told(target_text="a photo", sds_words=["calm"])["sds"] == "a red bear, calm"


def test_words_are_joined_and_dropped_at_commas():
    assert with_words("a bear", ()) == "a bear"
    assert with_words("a bear", ("smooth", "hazy")) == "a bear, smooth, hazy"
    assert without_words("a sharp knife, sharp,  SHARP , red", ("sharp",)) == "a sharp knife, red"


def test_a_text_without_praise_is_left_as_it_is():
    assert without_words("a bear,red", ("sharp",)) == "a bear,red"


def test_texts_that_say_nothing_are_refused():
    message = "the prompt 'sharp, 4K' only praises, and names nothing that could look bad. Say"
    with pytest.raises(ConfigError, match=message):
        told("sharp, 4K")
    with pytest.raises(ConfigError, match=r"guidance.source_text is ''"):
        options(source_text="")
    with pytest.raises(ConfigError, match=r"guidance.artifacts.1 is ''"):
        options(artifacts=["hazy", ""])
    with pytest.raises(ConfigError, match="holds a control character"):
        bridge(reads_anything(), source_text="a\nb")


def test_a_text_that_the_prior_does_not_know_is_refused_before_the_first_step():
    with pytest.raises(ConfigError, match="this prior knows no prompt 'a green dog, front view'"):
        bridge(exact.mixture_prior(), source_text="a green dog")
    bridge(exact.mixture_prior(), source_text="a green dog", source="null")  # it is not read


@pytest.mark.parametrize("scales", [{"bridge_scale": 7.5}, {"bridge_scale": 7.5, "scale": 1}])
def test_so_is_a_negative_prompt_that_only_the_bridge_would_read(scales):
    prior = exact.mixture_prior()
    context = replace(
        exact.guidance_context(prior), prompt=PromptOptions(text=exact.PROMPT, negative="unheard")
    )
    with pytest.raises(ConfigError, match="this prior knows no prompt 'unheard'"):
        Bridge(options(source="null", **scales), context)
    Bridge(options(source="null", bridge_scale=1, scale=1), context)  # it is not read


def test_released_texts_are_those_of_the_two_codes():
    dot, in_2d = told(preset="released"), told(preset="released-2d")
    bad = with_words("a red bear", ARTIFACTS)
    assert dot == {"sds": "a red bear, .", "source": bad, "target": "a red bear, ."}
    praised = "a red bear, detailed high resolution, high quality, sharp"
    assert in_2d == {"sds": "a red bear", "source": bad, "target": praised}
    kept = told("a bear, highly detailed", preset="released")
    assert kept["source"] == with_words("a bear, highly detailed", ARTIFACTS)


# Phases


def phases(total, **values):
    return [phase_at(options(**values), Step(index, total)) for index in range(total)]


def test_perp_neg_is_refused():
    context = exact.guidance_context(exact.mixture_prior())
    prompt = context.prompt.model_copy(update={"perp_neg": True})
    with pytest.raises(ConfigError, match="'bridge' has texts of its own at both ends"):
        Bridge(options(), GuidanceContext(context.prior, prompt, context.find))


def test_the_phase_follows_from_the_step():
    assert phases(5) == ["sds"] * 4 + ["bridge"]
    assert phases(4, switch_at_step=1) == ["sds"] + ["bridge"] * 3
    assert phases(4, preset="editing") == ["bridge"] * 4
    found = phases(10, switch_at=0.5, full_path={"start": 0.8})
    assert found == ["sds"] * 5 + ["bridge"] * 3 + ["full-path"] * 2
    found = phases(4, switch_at_step=2, full_path={"start": 0.5})
    assert found == ["sds"] * 2 + ["full-path"] * 2


def test_a_bridge_that_would_never_begin_is_refused_at_the_first_step():
    first = exact.some_latents(exact.mixture_prior(), 2)
    for values, message in (
        ({"switch_at_step": 9}, "switch_at_step is 9, but the stage ends at step 9: the bridge"),
        (
            {"switch_at_step": 6, "full_path": {"start": 0.5}},
            "switch_at_step is 6, but the full path begins at step 4: the bridge would never",
        ),
    ):
        method = bridge(exact.mixture_prior(), source="null", **values)
        with pytest.raises(ConfigError, match=message):
            method.gradient(
                first, exact.some_cameras(2), step=Step(0, 9), generator=Generator().manual_seed(0)
            )
    assert phases(4, switch_at=1.0) == ["sds"] * 4  # said as a fraction, 1 is never


def test_presets_have_the_papers_and_the_codes_numbers():
    def numbers(preset):
        it = options(preset=preset)
        return it.switch_at, it.scale, it.bridge_weight, it.bridge_weighting

    assert numbers("paper") == (0.8, 100.0, 1.0, "uniform")
    assert numbers("paper-2d") == (0.2, 40.0, 25.0, "uniform")
    assert numbers("editing") == (0.0, 100.0, 25.0, "uniform")
    assert options(preset="released").timesteps.schedule == "hard-switch"
    assert options().timesteps.schedule == "uniform"
    assert numbers("released") == (0.8, 100.0, 1.0, "uniform")
    assert numbers("released-2d") == (0.5, 40.0, 40.0, "sigma-squared")


def test_the_full_path_and_shared_noise_are_refused_together():
    message = r"guidance: estimator.shared_noise is true, but the full path draws no noise"
    with pytest.raises(ConfigError, match=message):
        options(source="estimator", estimator={"shared_noise": True}, **FULL)


def test_a_full_path_before_the_switch_is_refused():
    message = r"full_path.start = 0.5 lies before switch_at = 0.8: nothing would be left"
    with pytest.raises(ConfigError, match=message):
        options(full_path={"start": 0.5})


# Gradients


@pytest.mark.parametrize("source", ["text", "null", "estimator"])
@pytest.mark.parametrize("more", [{}, ALWAYS, FULL])
def test_both_sides_at_once_are_the_two_sides(more, source):
    prior = exact.mixture_prior(dtype=torch.float64)
    method = bridge(prior, source_text="a blue fox", source=source, bridge_scale=2.0, **more)
    latents, cameras = exact.some_latents(prior, 4).double(), exact.some_cameras(4)
    generator = Generator().manual_seed(0)
    noised = method.noised(latents, cameras, step=BEGIN, generator=generator)
    sides = method.sides(noised, cameras, step=BEGIN, generator=generator)
    for side, alone in zip(sides, (method.target, method.source), strict=True):
        expected = alone(noised, cameras, step=BEGIN, generator=generator).noise
        torch.testing.assert_close(side.noise, expected)
    assert not torch.allclose(sides[0].noise, sides[1].noise)


def test_a_null_source_is_the_prior_without_text():
    prior = exact.mixture_prior(dtype=torch.float64)
    method = bridge(prior, source="null", **ALWAYS)
    noised = some_noised(method, prior)
    found = method.source(noised, exact.some_cameras(4), step=BEGIN, generator=Generator()).noise
    expected = prior.predict_noise(noised.noisy, noised.t, prior.encode_text([""] * 4))
    assert torch.equal(found, expected)


def test_a_guided_target_moves_away_from_the_negative_prompt():
    prior = exact.mixture_prior(dtype=torch.float64)
    context = GuidanceContext(
        prior,
        PromptOptions(text=exact.PROMPT, negative="a blue fox"),
        exact.guidance_context(prior).find,
    )
    method = Bridge(options(**ALWAYS, source="null", bridge_scale=3.0), context)
    noised = some_noised(method, prior)
    found = method.target(noised, exact.some_cameras(4), step=BEGIN, generator=Generator()).noise
    text, negative = (
        prior.predict_noise(noised.noisy, noised.t, prior.encode_text([each] * 4))
        for each in (exact.PROMPT, "a blue fox")
    )
    torch.testing.assert_close(found, negative + 3 * (text - negative))


def some_noised(method, prior):
    latents, cameras = exact.some_latents(prior, 4).double(), exact.some_cameras(4)
    return method.noised(latents, cameras, step=BEGIN, generator=Generator().manual_seed(0))


def test_before_the_switch_it_is_sds_to_the_bit():
    prior = exact.mixture_prior()
    latents = exact.some_latents(prior, 4)
    sds = SDS(SDSOptions(scale=100), exact.guidance_context(prior))
    found = gradient(bridge(prior, source_text="a blue fox"), latents)
    assert torch.equal(found, gradient(sds, latents))


@pytest.mark.parametrize("more", [ALWAYS, FULL])
def test_equal_texts_give_no_gradient(more):
    prior = exact.mixture_prior()
    method = bridge(prior, artifacts=[], praise=[], **more)
    assert method.source_prompt == method.target_prompt
    assert not gradient(method, exact.some_latents(prior, 4)).any()


def test_the_gradient_is_the_weighted_difference_of_both_predictions():
    prior = exact.mixture_prior(dtype=torch.float64)
    method = bridge(prior, **ALWAYS, bridge_weight=3.0, source_text="a blue fox")
    latents, cameras = exact.some_latents(prior, 4).double(), exact.some_cameras(4)
    guided = method.gradient(
        latents, cameras, step=Step(0, 9), generator=Generator().manual_seed(0)
    )
    noised = guided.observed.noised
    target, source = (
        prior.predict_noise(
            noised.noisy, noised.t, prior.encode_text(view_texts(PromptOptions(text=text), cameras))
        )
        for text in (exact.PROMPT, "a blue fox")
    )
    torch.testing.assert_close(guided.gradient, 3 * (target - source), rtol=1e-12, atol=1e-12)


def two_components():
    """N((-2, 0), 0.1·I) is the source's text and N((2, 1), 0.1·I) the prompt's."""
    means = torch.tensor([[-2.0, 0.0], [2.0, 1.0]]).view(2, 2, 1, 1)
    prompts = [["a blue fox"], [exact.PROMPT]]
    return GaussianMixturePrior(means, 0.1 * torch.eye(2).expand(2, 2, 2), prompts=prompts)


@pytest.mark.parametrize("more", [ALWAYS, FULL])
def test_samples_of_the_source_move_towards_the_target(more):
    prior = two_components()
    method = bridge(prior, source_text="a blue fox", **more)
    latents = prior.sample(16, "a blue fox", generator=Generator().manual_seed(0))
    for index in range(200):
        latents = latents - 0.05 * gradient(method, latents, Step(index, 200))
    assert (latents[:, 0] > 0).all()  # across the middle
    before = torch.tensor([-2.0, 0.0])
    way = latents.flatten(1).mean(0) - before
    straight = torch.tensor([4.0, 1.0])
    assert float(torch.cosine_similarity(way, straight, dim=0)) > 0.999


# Runs


def test_a_run_stopped_in_every_phase_and_resumed_equals_the_uninterrupted_one(tmp_path):
    """Of 20 steps, SDS ends at 10 and the bridge at 16; a stop is heard in the step after it."""
    table = {
        "prompt": "a slanted gaussian",
        "prior": {"name": "gaussian-mixture", "components": [
            {"mean": [2, 1], "covariance": [[1, 0], [0, 1]], "prompts": ["a slanted gaussian"]},
            {"mean": [0, 0], "covariance": [[1, 0], [0, 1]], "prompts": ["something else"]},
        ]},
        "stages": [{
            "steps": 20,
            "renderer": "affine",
            "cameras": {"batch": 4},
            "guidance": {
                "name": "bridge", "switch_at": 0.5, "source_text": "something else",
                "full_path": {"start": 0.8, "steps": 3},
            },
        }],
        "run": {"threads": 1, "preview_every": 0},
    }  # fmt: skip
    experiment = Experiment(table, load_plugins())

    def go(folder, start, last=None):
        stop = Stop()
        for progress in run_stages(
            experiment, build_prior(experiment), folder, start=start, stop=stop
        ):
            stop.requested |= progress.step == last
        return find_start(folder).steps_done

    def begun(name):
        told = experiment.resolved()
        with RunFolder.claimed(tmp_path / name, experiment=told, made_by={}) as folder:
            return folder

    whole, parts = begun("whole"), begun("parts")
    go(whole, Start())
    assert go(parts, Start(), last=6) == 8
    for last, done in ((10, 12), (15, 17)):
        assert go(parts, find_start(parts), last=last) == done
        assert not list(parts.path.glob("scenes/**/*.safetensors"))
    go(parts, find_start(parts))
    assert scene_of(parts) == scene_of(whole)


def scene_of(folder):
    """The bytes of the scene at the end of the stage."""
    (path,) = folder.path.glob("scenes/**/*.safetensors")
    return path.read_bytes()
