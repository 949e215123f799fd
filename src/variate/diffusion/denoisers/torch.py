"""Networks of PyTorch: a module as a function of a point and the time, for whichever denoiser says what it predicts."""

import importlib
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from variate.checks import describe


class TorchFunction(eqx.Module):
    r"""A PyTorch module as a function $(x, t)$ of one point, as in `NoisePrediction(process, TorchFunction(module))`.

    The module is called as `module(x, t)` with a batch of points along the first axis and as many times, in the
    precision of the draws and on the device of its parameters. All draws of a step are one batch. The call is a
    callback to the host without gradient: a derivative of it raises. The module is used as it is: call `eval()` first.

    Raises:
        TypeError: what is no PyTorch module.
        ModuleNotFoundError: where PyTorch is not installed (`pip install 'variate[torch]'`).
    """

    module: Any = eqx.field(static=True)

    def __check_init__(self) -> None:
        if not isinstance(self.module, _torch().nn.Module):
            raise TypeError(f"module must be a torch.nn.Module, got {describe(self.module)}")

    def __call__(self, x: Float[Array, "..."], t: Any) -> Float[Array, "..."]:
        torch, event = _torch(), x.shape

        def ask(x: Any, t: Any) -> Any:
            device = next((parameter.device for parameter in self.module.parameters()), torch.device("cpu"))
            points, times = (torch.from_dlpack(jax.device_put(value, jax.devices("cpu")[0])) for value in (x, t))
            with torch.no_grad():
                found = self.module(points.reshape(-1, *event).to(device), times.reshape(-1).to(device))
            if tuple(found.shape) != (max(1, times.numel()), *event):
                raise ValueError(
                    f"the module must return a batch like its points, of shape {(times.numel(), *event)}, "
                    f"got {tuple(found.shape)}"
                )
            return found.to("cpu", points.dtype).reshape(points.shape).numpy()

        shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
        return jax.pure_callback(ask, shape, x, jnp.asarray(t, x.dtype), vmap_method="broadcast_all")


def _torch() -> Any:
    """PyTorch, which is imported when it is used: not every installation has it."""
    return importlib.import_module("torch")
