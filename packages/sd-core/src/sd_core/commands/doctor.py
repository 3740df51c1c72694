"""`score-distill doctor`: what is installed, which device, which models, and how much memory."""

import argparse
import os
import platform
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import torch

from sd_core.building import choose_device
from sd_core.errors import ConfigError
from sd_core.experiment import Choice, Experiment
from sd_core.experiment_options import read_experiment_file
from sd_core.made_by import LIBRARIES, installed_version
from sd_core.plugins import Plugins
from sd_core.residual import PriorPart, ResidualOptions

# Module, what it gives, whether it is of use on a CPU. None is needed.
OPTIONAL = (
    ("tinycudann", "hash-grid scenes several times faster on CUDA", False),
    ("nerfacc", "skips empty space in volume scenes on CUDA", False),
    ("nvdiffrast", "faster mesh drawing on CUDA; its licence is non-commercial", False),
    ("xformers", "attention in less memory on older GPUs", False),
    ("tensorboard", "run.tensorboard = true", True),
)

GIB = 2**30


def main(parsed: argparse.Namespace, plugins: Plugins) -> int:
    """Print a report; with an experiment, also its memory."""
    sections = [_machine(), _libraries(), _optional(), _plugins(plugins), _models()]
    if parsed.experiment:
        sections.append(_memory(Path(parsed.experiment), plugins))
    for lines in sections:
        for line in lines:
            print(line)
        print()
    return 0


def _machine() -> Iterator[str]:
    yield f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    yield f"CPU: {os.cpu_count()} cores, torch uses {torch.get_num_threads()} threads"
    for index in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(index)
        yield f"GPU {index}: {about.name}, {about.total_memory / GIB:.0f} GiB"
    if not torch.cuda.is_available():
        yield "GPU: none that torch can use; small worlds run on the CPU, Stable Diffusion crawls"


def _libraries() -> Iterator[str]:
    yield "Libraries"
    for name in LIBRARIES:
        missing = 'missing; pip install "sd-core[diffusers]" for the prior stable-diffusion'
        yield f"  {name:14} {installed_version(name) or missing}"


def _optional() -> Iterator[str]:
    yield "Optional parts (nothing needs them)"
    for module, gives, on_cpu in OPTIONAL:
        yield f"  {module:14} {_usable(module, on_cpu)}; {gives}"


def _usable(module: str, on_cpu: bool) -> str:
    version = installed_version(module)
    if version is None:
        return "not installed"
    if not on_cpu and not torch.cuda.is_available():
        return f"{version}, idle without CUDA"
    try:
        import_module(module)
    except Exception as error:  # whatever a half-built extension raises: that is the finding
        reason = " ".join(str(error).split())[:100]
        return f"{version}, installed but unusable ({type(error).__name__}: {reason})"
    return f"{version}, usable"


def _plugins(plugins: Plugins) -> Iterator[str]:
    yield f"Plugins: {len(plugins.entries)} entries, {len(plugins.broken)} broken"
    for broken in plugins.broken:
        yield f"  {broken}"


def _models() -> Iterator[str]:
    from sd_core.priors.diffusion.model_ids import SHORT_NAMES, find_model, variable_of

    yield "Models of the prior stable-diffusion"
    for name, model in SHORT_NAMES.items():
        try:
            where = find_model(name).where
        except ConfigError as error:
            yield f"  {name:10} {error}"
            continue
        if isinstance(where, Path):
            yield f"  {name:10} {where} ({variable_of(name)})"
        else:
            state = "in the cache" if is_cached(where.id, where.revision) else "not fetched yet"
            yield f"  {name:10} {where.id}, {state}; licence: {model.licence_page}"


def is_cached(model: str, revision: str | None) -> bool:
    """Whether a model of the hub is on this machine."""
    try:
        hub = import_module("huggingface_hub")
    except ModuleNotFoundError:
        return False
    found = hub.try_to_load_from_cache(model, "model_index.json", revision=revision)
    return isinstance(found, str)


def _memory(path: Path, plugins: Plugins) -> Iterator[str]:
    experiment = Experiment(read_experiment_file(path), plugins)
    yield f"Memory of {path}"
    if experiment.prior.entry.name != "stable-diffusion":
        yield f"  the prior {experiment.prior.entry.name} is small: nothing to plan"
        return
    from sd_core.priors.diffusion.memory_plan import plan_memory
    from sd_core.priors.diffusion.model_ids import ModelId, find_model
    from sd_core.priors.diffusion.stable_diffusion import StableDiffusionOptions

    config = experiment.prior.options
    assert isinstance(config, StableDiffusionOptions)
    where = find_model(config.model, config.revision).where
    if isinstance(where, ModelId) and not is_cached(where.id, where.revision):
        yield f"  {where.id} is not on this machine yet: fetch it, then ask again"
        return
    device = choose_device(experiment.options.run.device)
    for index, stage in enumerate(experiment.stages):
        plan = plan_memory(
            config,
            device=device,
            batch=stage.cameras.batch,
            has_estimator=_learns(stage.guidance),
            backward_through=_backward_through(stage.guidance),
        )
        yield f"  stage {index}, {stage.guidance.entry.name}, {stage.cameras.batch} views a step:"
        for name, size in plan.held.items():
            yield f"    {size / GIB:7.3f} GiB  {name}, all the time"
        for name, size in plan.passing.items():
            yield f"    {size / GIB:7.3f} GiB  {name}, in passing"
        yield f"    {plan.total / GIB:7.3f} GiB  at the worst moment, and the scene, and CUDA's 1"
        if device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            verdict = "fits" if plan.total + GIB < free else "does NOT fit"
            yield f"    {free / GIB:7.3f} GiB  free on {device}: it {verdict}"


def _learns(method: Choice) -> bool:
    """Whether the method, or one that it is made of, trains an estimator."""
    return any("estimator" in type(each.options).model_fields for each in method.with_parts())


def _backward_through(method: Choice) -> frozenset[PriorPart]:
    """What of the prior the method, or one that it is made of, differentiates."""
    options = [each.options for each in method.with_parts()]
    told = [each.backward_through() for each in options if isinstance(each, ResidualOptions)]
    return frozenset().union(*told)
