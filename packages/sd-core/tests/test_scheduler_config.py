"""Schedules and kinds of output, as a scheduler's own file gives them."""

import importlib.util
import os

import pytest
import torch

os.environ["HF_HUB_OFFLINE"] = "1"  # before the hub is imported: it reads this once
if importlib.util.find_spec("diffusers") is None:
    pytest.skip("the extra [diffusers] is not installed", allow_module_level=True)

from sd_core.errors import ConfigError
from sd_core.priors.diffusion.scheduler_config import prediction_of, schedule_of


def test_a_flow_scheduler_is_a_rectified_flow():
    config = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}
    schedule = schedule_of({**config, "num_train_timesteps": 1000})
    torch.testing.assert_close(schedule.alphas + schedule.sigmas, torch.ones(1000).double())
    import diffusers

    theirs = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0).sigmas.flip(0).double()
    torch.testing.assert_close(schedule.sigmas, theirs, rtol=1e-6, atol=1e-6)


def test_zero_terminal_snr_is_kept():
    schedule = schedule_of({"prediction_type": "v_prediction", "rescale_betas_zero_snr": True})
    assert schedule.alphas[-1] == 0


@pytest.mark.parametrize(
    "config",
    [{"_class_name": "DDIMScheduler", "prediction_type": "sample"}, {"_class_name": "EDMEuler"}],
)
def test_an_unknown_kind_of_output_is_refused(config):
    kind = config.get("prediction_type", "epsilon")
    with pytest.raises(ConfigError) as error:
        prediction_of(config)
    assert str(error.value) == (
        f"the model's scheduler is {config['_class_name']} with prediction_type '{kind}', but the "
        "prior knows epsilon, v_prediction, flow. Choose another model."
    )
