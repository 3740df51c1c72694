"""Whole runs on a tiny Stable Diffusion model: what the estimator has learned survives a stop."""

import importlib.util
import os

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"  # before the hub is imported: it reads this once
if importlib.util.find_spec("diffusers") is None:
    pytest.skip("the extra [diffusers] is not installed", allow_module_level=True)

from runner_world import assert_same_end
from sd_core.testing.tiny_pipelines import save_tiny_pipeline
from small_runs import SmallRun, newest_state, table

LEARNING = {"learning_rate": 0.01, "camera_dropout": 0.3}
GUIDANCE = {
    "fresh noise": {"name": "vsd", "estimator": LEARNING},
    "shared noise": {"name": "vsd", "estimator": {**LEARNING, "shared_noise": True}},
    "mix": {"name": "mix", "source": "vsd", "options": {"vsd": {"estimator": LEARNING}}},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny_pipeline(tmp_path_factory.mktemp("model") / "sd1", "sd1")


@pytest.mark.parametrize("guidance", GUIDANCE)
def test_a_run_with_a_learned_estimator_resumes_to_the_bit(tmp_path, model, guidance):
    options = table(
        {"steps": 6, "guidance": GUIDANCE[guidance], "renderer": {"name": "tiles", "side": 16}},
        turntable_frames=0,
    )
    options["prior"] = {"name": "stable-diffusion", "model": str(model)}
    whole = SmallRun(options, tmp_path / "whole").go()
    parts = SmallRun(options, tmp_path / "parts").go(steps=3).resume()
    assert_same_end(parts, whole)
    learned = newest_state(whole.folder)["guidance"]
    assert any("lora" in name or "updates" in name for name in learned)
