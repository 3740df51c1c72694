"""A low-rank adapter on a frozen network, switched on for single calls."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any

from torch import nn

from sd_core.errors import ConfigError


class LoraAdapter(nn.Module):
    """W·x + scale·B·(A·x) in place of W·x, in the chosen layers of a network; only inside `on`.

    Several adapters live on one network under names of their own. peft's `enable_adapters` and
    `set_adapter` switch `requires_grad` as well: called between a forward pass and its backward
    pass, they leave the gradients zero without a word. So here the layers' own flags are switched,
    call by call, and put back as they were, and `requires_grad` is left alone.

    Its parameters are A and B. The network's own weights are no part of it.
    """

    def __init__(
        self, network: nn.Module, *, rank: int, alpha: float | None, targets: Sequence[str]
    ) -> None:
        super().__init__()
        self.name, found = _inject(network, rank, alpha, targets)
        self._layers = list(found.values())
        self._known: dict[str, Any] = network.__dict__["peft_config"]
        self.updates = nn.ModuleDict(
            {
                path.replace(".", "/"): nn.ModuleDict(
                    {"A": layer.lora_A[self.name], "B": layer.lora_B[self.name]}
                )
                for path, layer in found.items()
            }
        )
        # peft gives them the network's precision; a step of 1e-4 is lost in half precision.
        self.updates.float().requires_grad_(True)

    @contextmanager
    def on(self) -> Iterator[None]:
        """The network's calls in here go through the adapter, as do their recomputations.

        With gradient checkpointing parts of the forward pass run again within `backward`, which
        then belongs in here too.
        """
        before = [(layer._active_adapter, layer._disable_adapters) for layer in self._layers]
        for layer in self._layers:
            # What is on at rest, such as a style that the user loaded, belongs to the prior: it
            # stays on.
            others = [] if layer._disable_adapters else layer.active_adapters
            layer._active_adapter = [name for name in others if name != self.name] + [self.name]
            layer._disable_adapters = False
        try:
            yield
        finally:
            for layer, (active, disabled) in zip(self._layers, before, strict=True):
                layer._active_adapter = active
                layer._disable_adapters = disabled

    def leave(self) -> None:
        """Take it off the network, for good."""
        for layer in self._layers:
            layer._active_adapter = [name for name in layer.active_adapters if name != self.name]
            layer.delete_adapter(self.name)
        self._known.pop(self.name, None)


def _inject(
    network: nn.Module, rank: int, alpha: float | None, targets: Sequence[str]
) -> tuple[str, dict[str, Any]]:
    """Put an adapter into the network, switched off; gives its name and the layers it is in."""
    from peft import LoraConfig, inject_adapter_in_model

    # Taken out for the moment: finding it, peft warns that one more adapter is one too many.
    known: dict[str, Any] = network.__dict__.pop("peft_config", {})
    name = next(name for name in map("estimator_{}".format, count()) if name not in known)
    config = LoraConfig(
        r=rank,
        lora_alpha=rank if alpha is None else alpha,  # type: ignore[arg-type]
        target_modules=list(targets),
        init_lora_weights="gaussian",  # A ~ N(0, 1/rank²), B = 0, as published
    )
    # peft makes what it injects the only active adapter, and what was there it may freeze.
    required = {parameter: parameter.requires_grad for parameter in network.parameters()}
    at_rest = {
        layer: (layer._active_adapter, layer._disable_adapters)
        for layer in _adapted_layers(network).values()
    }
    try:
        inject_adapter_in_model(config, network, name)
    except ValueError as error:
        raise ConfigError(f"prior.estimator.targets: {error}") from None
    finally:
        network.__dict__["peft_config"] = known
    known[name] = config
    layers = _adapted_layers(network)
    for layer in layers.values():
        layer._active_adapter, layer._disable_adapters = at_rest.get(layer, ([name], True))
    for parameter, requires_grad in required.items():
        parameter.requires_grad_(requires_grad)
    return name, {path: layer for path, layer in layers.items() if name in layer.lora_A}


def _adapted_layers(network: nn.Module) -> dict[str, Any]:
    """peft's layers by their paths. Any: what is switched here has no public name."""
    from peft.tuners.lora import LoraLayer

    return {path: m for path, m in network.named_modules() if isinstance(m, LoraLayer)}
