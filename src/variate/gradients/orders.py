"""Guards of the order of a derivative: what is right to one order only must not be differentiated again in silence."""

import jax
from jaxtyping import Array, PyTree


@jax.custom_jvp
def last(x: PyTree[Array]) -> PyTree[Array]:
    """The identity, which cannot be differentiated: the last order of derivative that was provided for."""
    return x


@last.defjvp
def _(primals: tuple, tangents: tuple) -> tuple[PyTree[Array], PyTree[Array]]:
    raise TypeError(
        "this gradient was estimated to be used, not to be differentiated again, and its rules were chosen for that. "
        "Say order=2 to vt.grad (or vt.value_and_grad) where its result is differentiated further; "
        "vt.grad(vt.grad(f)) says so by itself"
    )
