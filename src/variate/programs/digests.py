"""Digests: what tells one function from another that is called the same, and data from other data."""

import hashlib
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.extend.core import ClosedJaxpr

from variate.programs.program import every_constant
from variate.programs.staging import program_of


def digest_of(f: Any, *args: Any) -> str:
    """Of what a function does, as JAX stages it: its operations and its constants, whatever it is called."""
    return digest_of_traced(jax.make_jaxpr(lambda *args: f(*args))(*args))  # a function that no cache of traces knows


def digest_of_traced(traced: ClosedJaxpr) -> str:
    """Of what a function was traced to; of what it closes over and a caller's `jit` traces, the shape."""
    text = re.sub(r"0x[0-9a-f]+|source=\S+", "", str(traced))
    return digest(text, *(x for x in every_constant(program_of(traced)) if not isinstance(x, Tracer)))


def digest(*parts: Any) -> str:
    """Of arrays, keys and texts."""
    found = hashlib.sha256()
    for part in parts:
        is_key = isinstance(part, jax.Array) and jnp.issubdtype(part.dtype, jax.dtypes.prng_key)
        array = np.asarray(jax.random.key_data(part) if is_key else part)
        found.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
    return found.hexdigest()
