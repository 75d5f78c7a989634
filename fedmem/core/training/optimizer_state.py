"""What an optimizer keeps of its parameters, by their names: saved with a run, and gone on from."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch.optim import Optimizer

from fedmem.core.model.parameters import Parameters


def optimizer_state(optimizer: Optimizer, parameters: Mapping[str, Tensor]) -> Parameters:
    """Copies of what an optimizer keeps of each of its parameters, as `<parameter>/<key>`."""
    return {
        f"{name}/{key}": value.detach().cpu().clone()
        for name, parameter in parameters.items()
        for key, value in optimizer.state[parameter].items()
        if isinstance(value, Tensor)
    }


def load_optimizer_state(
    optimizer: Optimizer, parameters: Mapping[str, Tensor], state: Mapping[str, Tensor]
) -> None:
    """Let an optimizer go on from copies of what `optimizer_state` gave, where its parameters are.

    Counts of steps stay on the CPU, where torch keeps them.
    """
    for parameter in parameters.values():
        optimizer.state[parameter] = {}
    for place, value in state.items():
        name, _, key = place.rpartition("/")
        if name in parameters:
            own = parameters[name]
            device = value.device if key == "step" else own.device
            optimizer.state[own][key] = value.to(device, copy=True)
