"""All of it in order: pictures, VAE, CLIP model, diffusion, the folder, measurements, the card.

Everything is kept in the work folder, and what is there is not made again.
"""

import json
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

import torch
from torch import nn

from sd_core.atomic import new_folder, write_text
from sd_core.errors import ConfigError
from sd_core.made_by import installed_version
from sd_core.prior import PriorContext
from sd_toybox.model.folders import CLIP, save_clip, save_pipeline
from sd_toybox.model.networks import new_image_processor, new_scheduler, parameters_of
from sd_toybox.model.tokenizer import new_tokenizer, token_rows
from sd_toybox.model.toybox_prior import ToyboxOptions, build
from sd_toybox.train.autoencoder import VaeTask, normalised, raw_latents, rounded
from sd_toybox.train.card import MadeBy, as_json, card
from sd_toybox.train.clip import ClipTask
from sd_toybox.train.data import Store
from sd_toybox.train.diffusion import DiffusionTask
from sd_toybox.train.judges import ClipJudge
from sd_toybox.train.measure import measure
from sd_toybox.train.plan import SAMPLING_STEPS, Plan, fingerprint
from sd_toybox.train.sampling import Sampler
from sd_toybox.train.task import Outcome, Run, Task, train

MEASUREMENTS = "measurements.json"
CARD = "README.md"
_BEGUN = "begun.json"
_LIBRARIES = ("sd-toybox", "sd-core", "torch", "diffusers", "transformers")


@dataclass(frozen=True)
class Order:
    """What is to be made, where it is worked on and where it goes, and who hears of it."""

    plan: Plan
    seed: int
    work: Path
    output: Path
    write: Callable[[str], None]

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.plan, self.seed)


@dataclass
class Made:
    """What there is so far."""

    networks: dict[str, nn.Module] = field(default_factory=dict)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Counts the seconds of a part; of a training its own count is taken, all runs together."""
        began = monotonic()
        yield
        self.seconds[name] = monotonic() - began


def make(order: Order) -> None:
    """Makes the model and its card, or goes on with it."""
    if _is_made(order):
        order.write(f"{order.output} was made with this plan and seed. Delete it to make it anew.")
        return
    _check_output(order)
    _check_work(order)
    made = Made()
    store = Store(order.work / "pictures", order.plan, order.seed, order.write)
    _train_all(order, store, made)
    with new_folder(order.output) as folder:
        _save(folder, made)
    _measure(order, store, made)


def _train_all(order: Order, store: Store, made: Made) -> None:
    plan, sizes, tokenizer = order.plan, order.plan.sizes, new_tokenizer()
    with made.timed("pictures"):
        world = store.samples("world")
        for_judge = store.samples("judge")
        store.samples("test")
        store.samples("judge-test")

    vae_task = VaeTask(world.pictures, plan.vae, sizes, order.seed)
    _train(order, vae_task, made)
    vae = made.networks["vae"] = rounded(vae_task.vae)
    with made.timed("latents"):
        raw = raw_latents(vae, world.pictures, order.work / "latents.safetensors", order.write)
        latents = normalised(vae, raw)

    clip_task = ClipTask(for_judge, plan.clip, sizes, tokenizer=tokenizer, seed=order.seed)
    _train(order, clip_task, made)
    made.networks |= {"clip": clip_task.clip, "pose_head": clip_task.pose_head}

    tokens = token_rows(tokenizer, [*world.labels.captions, ""])
    task = DiffusionTask(latents, tokens, plan.diffusion, sizes, seed=order.seed)
    _train(order, task, made)
    made.networks |= {"unet": task.unet, "text_encoder": task.text_encoder}


def _train(order: Order, task: Task, made: Made) -> None:
    outcome = train(task, Run(order.work, order.fingerprint, order.seed, order.write))
    made.outcomes[task.name] = outcome
    made.seconds[task.name] = outcome.seconds


def _save(folder: Path, made: Made) -> None:
    networks, tokenizer = made.networks, new_tokenizer()
    parts = {name: networks[name] for name in ("vae", "unet", "text_encoder")}
    save_pipeline(folder, {**parts, "tokenizer": tokenizer, "scheduler": new_scheduler()})
    readers = (tokenizer, new_image_processor())
    save_clip(folder / CLIP, networks["clip"], networks["pose_head"], *readers)


def _measure(order: Order, store: Store, made: Made) -> None:
    """Of the folder as users will load it."""
    options = ToyboxOptions(folder=str(order.output), dtype="fp32")
    prior = build(options, PriorContext(torch.device("cpu")))
    folder, steps = order.work / "samples", SAMPLING_STEPS
    sampler = Sampler(prior, folder, order.seed, steps, order.write)
    with made.timed("measure"):
        found = measure(prior, ClipJudge(order.output / CLIP), store, sampler)
    made_by = _made_by(order, made)
    write_text(order.output / CARD, card(made_by, found))
    write_text(order.output / MEASUREMENTS, as_json(made_by, found))
    order.write(f"made {order.output}: read its {CARD}")


def _made_by(order: Order, made: Made) -> MadeBy:
    versions = {name: installed_version(name) or "?" for name in _LIBRARIES}
    weights = order.output.rglob("*.safetensors")
    return MadeBy(
        fingerprint=order.fingerprint,
        seed=order.seed,
        versions={"python": platform.python_version(), **versions},
        threads=torch.get_num_threads(),
        parameters={name: parameters_of(network) for name, network in made.networks.items()},
        megabytes=sum(path.stat().st_size for path in weights) / 1e6,
        seconds=made.seconds,
        outcomes=made.outcomes,
    )


def _is_made(order: Order) -> bool:
    path = order.output / MEASUREMENTS
    if not path.is_file():
        return False
    found: bool = json.loads(path.read_text("utf-8"))["made_by"]["fingerprint"] == order.fingerprint
    return found


def _check_output(order: Order) -> None:
    """The folder is replaced as a whole, so it must not be somebody's documents."""
    output = order.output
    if output.is_dir() and any(output.iterdir()) and not (output / "model_index.json").is_file():
        raise ConfigError(
            f"the folder {output} holds something that is no model. Give another --output, "
            "or empty it."
        )


def _check_work(order: Order) -> None:
    """What was begun with other numbers, or with another world, does not go on."""
    path = order.work / _BEGUN
    if path.is_file():
        begun = json.loads(path.read_text("utf-8"))["fingerprint"]
        if begun != order.fingerprint:
            raise ConfigError(
                f"the work folder {order.work} was begun with another plan, seed or world. Give "
                "another --work, or delete it."
            )
        return
    order.work.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps({"fingerprint": order.fingerprint}))
