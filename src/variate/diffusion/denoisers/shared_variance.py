"""A network that says, beside the noise, how much of a step's variance there is."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from variate.checks import check_takes, describe

from ..checks import asked
from ..processes.base import Level, Process, check_process
from .base import Denoiser, Prediction, from_noise


class NoiseAndShare(Denoiser):
    r"""A function $(x, t)$ that predicts a pair: the noise $E[\epsilon \mid x_t = x]$, and v, both of the shape of x.

    A step backwards has a variance between the $\tilde\beta$ that it would have if the data were known and the $\beta$
    of the process, and $v$, a number for each coordinate, is the share of the latter in its logarithm. It is about 0
    to 1, not bounded. `variance_loss` trains it, for the steps of one schedule, and `AncestralLearned` draws by it;
    everything else sees the noise alone. Programs of that time give $2 v - 1$.

    Raises:
        TypeError: a process or a function that is none; what it returns is looked at in a run.

    Source: Nichol and Dhariwal (2021), Improved denoising diffusion probabilistic models, ICML, section 3.1.
    """

    process: Process
    function: Callable[[Float[Array, "..."], Any], tuple[Float[Array, "..."], Float[Array, "..."]]] | Any

    def __check_init__(self) -> None:
        check_process(self.process)
        check_takes("function", self.function, (None, None), "a point and the time")

    def both(self, x: Float[Array, "..."], level: Level) -> tuple[Prediction, Float[Array, "..."]]:
        """The prediction, and v."""
        found = asked("function", self.function, x, level.time)
        if not (isinstance(found, tuple) and len(found) == 2 and all(jnp.shape(part) == x.shape for part in found)):
            got = tuple(map(describe, found)) if isinstance(found, tuple) else describe(found)
            raise ValueError(
                f"the denoiser must return a pair (noise, v) of arrays like the point, of shape {x.shape}, got {got}"
            )
        noise, share = (jnp.asarray(part, x.dtype) for part in found)
        return from_noise(x, noise, level), share

    def predict(self, x: Float[Array, "..."], level: Level) -> Prediction:
        return self.both(x, level)[0]
