"""Draws in a store are those of `sample`, whoever interrupts it, and a full disk costs none."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zarr

import variate as vt
from variate.mcmc import HMC, stream
from variate.running import Stored
from variate.running.store import Streamed


def law(x: dict[str, jax.Array]) -> jax.Array:
    return -0.5 * x["a"] ** 2 - 0.5 * x["b"] @ x["b"]


START = {"a": jnp.asarray(0.3), "b": jnp.ones(2)}
OPTIONS: dict = {"kernel": HMC(num_steps=3), "num_warmup": 50}


def run(path: Path, **options: Any) -> Stored:
    return stream(jax.random.key(0), law, path, START, **{"num_samples": 100, **OPTIONS, **options})


def kept(num_samples: int = 100) -> Any:
    return vt.sample(jax.random.key(0), law, START, num_samples=num_samples, **OPTIONS)


def same(one: Any, other: Any) -> bool:
    parts = [jax.tree.leaves((d.values, d.acceptance, d.divergent, d.evaluations)) for d in (one, other)]
    return all(map(np.array_equal, *parts))


def test_they_are_those_of_sample(tmp_path: Path) -> None:
    stored = run(tmp_path / "draws.zarr")
    assert same(stored.draws(), kept())
    tree = stored.tree()
    assert tree["posterior"]["b"].dims == ("chain", "draw", "b_dim_0")
    assert not tree["posterior"]["b"].chunks
    assert sorted(tree["sample_stats"].data_vars) == ["acceptance_rate", "diverging", "energy", "n_steps"]
    with pytest.raises(ValueError, match=r"draws\.zarr' already"):
        run(tmp_path / "draws.zarr")


def test_names_that_are_a_path_or_an_axis_are_found_again(tmp_path: Path) -> None:
    def named(x: dict[str, jax.Array]) -> jax.Array:
        return -0.5 * (x["net/w"] ** 2 + (x["chain"] - 9) ** 2)

    start = {"net/w": jnp.asarray(0.0), "chain": jnp.asarray(9.0)}
    stored = stream(jax.random.key(0), named, tmp_path / "draws.zarr", start, num_samples=25, **OPTIONS)
    values = stored.draws().values
    assert np.mean(values["chain"]) > 5 > np.mean(values["net/w"])
    assert sorted(stored.tree()["posterior"].data_vars) == ["chain_", "net.w"]


def test_a_run_that_was_interrupted_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, file, write = tmp_path / "draws.zarr", tmp_path / "chains.npz", Streamed._write

    def interrupted(streamed: Any, index: int, draws: Any) -> None:
        write(streamed, index, draws)
        if index == 2:  # it is in the store, but the checkpoint does not know yet
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Streamed, "_write", interrupted)
        early = run(path, checkpoint=file)
    assert early.ended == "interrupted"
    assert early.draws().acceptance.shape == (4, 75)
    again = run(path, checkpoint=file, num_samples=125)
    assert again.ended is None
    assert same(again.draws(), kept(125))
    with pytest.raises(ValueError, match="has 0 blocks of draws, the checkpoint 5"):
        run(tmp_path / "other.zarr", checkpoint=file)


def test_a_full_disk_costs_no_draw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, full, begun, consolidate = tmp_path / "draws.zarr", [], Streamed._write, zarr.consolidate_metadata

    def filling(streamed: Any, index: int, draws: Any) -> None:
        full.append(index)
        begun(streamed, index, draws)

    def refusing(*of: Any, **options: Any) -> None:
        if len(full) > 2:
            raise OSError(28, "No space left on device")
        consolidate(*of, **options)

    monkeypatch.setattr(Streamed, "_write", filling)
    monkeypatch.setattr(zarr, "consolidate_metadata", refusing)
    with pytest.warns(RuntimeWarning, match="could not be written .*No space left"):
        early = run(path)
    assert early.ended is not None
    assert "No space left" in early.ended
    assert early.tree()["posterior"].sizes["draw"] == 50  # whole blocks, although parts of another are there
    assert same(early.draws(), kept(75))
    assert not early.draws().expect().converged


def test_where_no_store_can_be_made_is_said_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"cannot be made: .*file' is no directory to write to"):
        run(tmp_path / "file" / "draws.zarr")
