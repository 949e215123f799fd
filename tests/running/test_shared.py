"""Chains that are shared out to several devices are those that one device runs, where it rounds alike for fewer."""

import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import variate as vt
from variate.running import Devices, Runner
from variate.running.base import environment

SHARED = """
import jax, jax.numpy as jnp, numpy as np, variate as vt
from variate.running import Devices, Runner
from variate.running.devices import Shared
law = lambda x: -0.5 * (x - 1) @ jnp.array([[1.0, 0.4], [0.4, 2.0]]) @ (x - 1)

def on(count, how, chains, *given):
    options = dict(kernel=vt.mcmc.MALA(), num_samples=50, num_warmup=50, num_chains=chains)
    runner = Runner(Devices(jax.local_devices()[:count]))
    return how(jax.random.key(0), law, *given, jnp.zeros(2), runner=runner, **options)

def bits(found):
    return [np.asarray(x).tobytes() for x in jax.tree.leaves(found)]

one = on(1, vt.sample, 4)
print(bits(one) == bits(on(3, vt.sample, 4)), Devices().line(4).size)
print(bits(on(1, vt.mcmc.fold, 30, None)) == bits(on(3, vt.mcmc.fold, 30, None)), Devices().line(30).size)
Shared.together = lambda shared, x: x  # each learns from its own chains
jax.clear_caches()
print(bits(one) == bits(on(3, vt.sample, 4)))
"""


@pytest.mark.slow
@pytest.mark.table
def test_they_are_those_of_one_device() -> None:
    three = environment() | {"XLA_FLAGS": "--xla_force_host_platform_device_count=3"}
    run = subprocess.run([sys.executable, "-c", SHARED], env=three, stdout=subprocess.PIPE, check=True, text=True)
    assert run.stdout.splitlines() == ["True 2", "True 3", "False"]


@pytest.mark.parametrize(
    ("runner", "error", "words"),
    [
        (3, TypeError, r"runner must be a vt\.running\.Runner, of Processes\(2\) say, got 3"),
        (Runner, TypeError, r"runner must be a vt\.running\.Runner"),
        (Runner(Devices(), seconds=3.0), ValueError, "runner: vt.sample has a checkpoint and progress of its own"),
    ],
)
def test_other_runners_are_refused(runner: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        vt.sample(jax.random.key(0), lambda x: -0.5 * x @ x, jnp.ones(2), runner=runner)
