"""Memory that is not there: asked for in vain before a run, or run out of in its midst."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import variate as vt
from variate.mcmc import RandomWalk
from variate.running import ESS, chains, memory


def run(**options: Any) -> Any:
    options = {"num_samples": 100, "num_warmup": 25, "num_chains": 2, **options}
    return vt.sample(jax.random.key(0), lambda x: -0.5 * x @ x, jnp.zeros(3), kernel=RandomWalk(1.0), **options)


def test_draws_for_which_there_is_no_room_are_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    words = "num_samples=2000000000 draws of num_chains=2 chains take 352 GB of memory, .* by num_samples or num_chains"
    with pytest.raises(MemoryError, match=words + ", keep fewer by thin, or none by vt.mcmc.fold"):
        run(num_samples=2 * 10**9)
    monkeypatch.setattr(memory, "available", lambda: 17_600)
    assert run().ended is None
    with pytest.raises(MemoryError):
        run(num_samples=101)


def test_chains_for_which_there_is_no_room_are_refused_in_words() -> None:
    """Before any of them is begun: a machine that lends what it has not would end the process."""
    with pytest.raises(MemoryError, match=r"num_chains=1000000000 chains of 3 numbers take 1.8e\+03 GB of memory"):
        run(num_chains=10**9)
    with pytest.raises(MemoryError, match="num_chains=100 chains, and what is kept of them, have no room"):
        vt.mcmc.fold(jax.random.key(0), jnp.sum, lambda x: jnp.zeros((10**6, 10**6)) + x[0], jnp.zeros(3))


def test_where_memory_runs_out_the_draws_so_far_remain(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run()
    monkeypatch.setattr(memory, "available", lambda: 8_000)  # a block is about 2,100 bytes
    early = run(num_samples=None, until=ESS(10**9))
    assert early.ended == "ended for lack of memory after 50 draws of each chain"
    assert np.array_equal(early.values, whole.values[:, :50])
    assert not early.expect().converged


@pytest.mark.parametrize("error", [MemoryError(), jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")])
def test_a_failure_of_the_device_costs_no_draw(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, block, blocks = run(), chains.block, []

    def failing(*of: Any) -> Any:
        blocks.append(of)
        if len(blocks) > 3:  # of the warm-up one
            raise error
        return block(*of)

    monkeypatch.setattr(chains, "block", failing)
    early = run()
    assert early.ended == "ended for lack of memory after 50 draws of each chain"
    assert np.array_equal(early.values, whole.values[:, :50])
    blocks[:] = [None] * 3
    with pytest.raises(MemoryError):  # there are no draws yet
        run()


def test_other_failures_are_passed_on() -> None:
    assert not memory.is_lack(jax.errors.JaxRuntimeError("INTERNAL: a bug"))
    assert not memory.is_lack(ValueError("RESOURCE_EXHAUSTED"))


def test_what_is_available_is_what_the_machine_or_its_group_has(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:   2048 kB\n")
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_GROUP", tmp_path)
    assert memory.available() == 2048 * 1024
    (tmp_path / "memory.max").write_text("max")
    (tmp_path / "memory.current").write_text("1000")
    assert memory.available() == 2048 * 1024
    (tmp_path / "memory.max").write_text("5000")
    assert memory.available() == 4000
