"""A denoiser that was made for one process, used on another."""

from jaxtyping import Array, Float

from ..processes.base import Level, Process, check_process
from ..processes.variance_exploding import EDM
from .base import Denoiser, Prediction


class Rescaled(Denoiser):
    r"""What lies behind $x = \alpha d + \sigma e$ on any process, by a denoiser on `EDM`: the one of $x / \alpha$.

    A process only scales a point; what is known of the data depends on the ratio $\sigma / \alpha$ alone. So one
    network serves all processes.

    Raises:
        ValueError: a denoiser on another process than `EDM`.

    Source: Karras, Aittala, Aila and Laine (2022), Elucidating the design space of diffusion-based generative models,
    NeurIPS 35, appendix B.
    """

    process: Process
    denoiser: Denoiser  # whose process is `EDM`

    def __check_init__(self) -> None:
        check_process(self.process)
        check_edm(self.denoiser)

    def predict(self, x: Float[Array, "..."], level: Level) -> Prediction:
        ratio = level.sigma / level.alpha
        return self.denoiser.predict(x / level.alpha, Level(ratio, 1.0, ratio))


def check_edm(denoiser: Denoiser) -> None:
    if not isinstance(denoiser.process, EDM):
        raise ValueError(f"denoiser must be one on EDM(), got one on {type(denoiser.process).__name__}")
