"""The time of compiling is told apart, and what one process compiled another one finds."""

import subprocess
import sys
from pathlib import Path

import pytest

from variate.running.base import environment
from variate.running.timing import covered

SCRIPT = """
import sys, jax, jax.numpy as jnp, numpyro.distributions as dist, variate as vt
jax.config.update("jax_enable_compilation_cache", True)
jax.config.update("jax_compilation_cache_dir", sys.argv[1])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
missed = []
jax.monitoring.register_event_listener(lambda event, **_: missed.append(event) if "cache_misses" in event else None)

def model(key, y):
    vt.observe(dist.Normal(vt.draw(key, dist.Normal(0.0, 5.0), name="mu"), 1.0), y, name="y")

posterior = vt.condition(model, jnp.arange(3.0))
options = dict(kernel=vt.mcmc.MALA(), num_samples=25, num_warmup=50)
draws = vt.sample(jax.random.key(0), posterior, **options)
again = vt.sample(jax.random.key(0), posterior, **options)
print(draws.values["mu"][-1, -1].item().hex(), len(missed))
seconds = draws.seconds
print(0 < seconds["compiling"] < seconds["all"], again.seconds["compiling"] < 0.3 * seconds["compiling"])
"""


@pytest.mark.slow
@pytest.mark.table
def test_another_process_compiles_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    told = [subprocess.run(command, env=environment(), stdout=subprocess.PIPE, check=True, text=True) for _ in range(2)]
    (value, missed), (same, none) = (run.stdout.splitlines()[0].split() for run in told)
    assert value == same
    assert int(missed) > 10
    assert none == "0"
    assert told[0].stdout.splitlines()[1] == "True True"


def test_what_is_traced_inside_counts_once() -> None:
    assert covered([]) == 0
    assert covered([(1.0, 1.0), (0.0, 3.0), (5.0, 1.0), (5.5, 1.0)]) == pytest.approx(4.5)
