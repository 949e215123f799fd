"""Chains that were stopped, killed or interrupted go on from their file as if nothing had been."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import variate as vt
from variate.estimates.rules import Rule
from variate.mcmc import HMC, NUTS
from variate.running.base import environment
from variate.running.until import SoFar


def model(key: jax.Array, y: jax.Array) -> None:
    k1, k2 = jax.random.split(key)
    mu = vt.draw(k1, dist.Normal(0.0, 5.0), name="mu")
    scale = vt.draw(k2, dist.HalfNormal(2.0), name="scale")
    vt.observe(dist.Normal(mu, scale), y)


DATA = jnp.array([1.0, 2.5, -0.5, 3.0])


class Ends(Rule):
    """Interrupted, or killed, when each chain has so many draws."""

    def __init__(self, at: int, killed: bool = False):
        self.at, self.killed = at, killed

    def met(self, so_far: SoFar) -> bool:
        if so_far.draws.acceptance.shape[1] < self.at:
            return False
        if self.killed:
            os.kill(os.getpid(), signal.SIGKILL)
        raise KeyboardInterrupt


def run(path: Path | None, y: Any = DATA, seed: int = 0, **options: Any) -> Any:
    options = {"num_samples": 200, "num_warmup": 150, **options}
    return vt.sample(jax.random.key(seed), vt.condition(model, y), checkpoint=path, **options)


def same(one: Any, other: Any) -> bool:
    parts = [(draws.values, draws.acceptance, draws.evaluations, draws.warmup.values) for draws in (one, other)]
    return all(np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, parts), strict=True))


def test_after_an_interrupt_it_goes_on_to_the_same_draws(tmp_path: Path) -> None:
    path, whole = tmp_path / "chains.npz", run(None)
    stopped = run(path, until=Ends(75))
    assert stopped.acceptance.shape == (4, 75)
    assert stopped.ended == "interrupted"
    assert same(run(path), whole)
    assert list(tmp_path.iterdir()) == [path]
    assert same(run(path), whole)  # nothing is left to do
    assert run(path, num_samples=300).acceptance.shape == (4, 300)
    assert not same(run(None, seed=1), whole)


def test_after_it_was_killed_it_goes_on_to_the_same_draws(tmp_path: Path) -> None:
    path = tmp_path / "chains.npz"
    program = "import jax; jax.config.update('jax_enable_x64', True); jax.config.update('jax_num_cpu_devices', 1)\n"
    program += f"from test_chain_file import Ends, run; run({str(path)!r}, until=Ends(75, killed=True))"
    folder = str(Path(__file__).parent)
    killed = subprocess.run(
        [sys.executable, "-c", program],
        env={**environment(), "PYTHONPATH": os.pathsep.join([folder, environment()["PYTHONPATH"]])},
        capture_output=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert path.exists()
    assert same(run(path), run(None))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"y": 2 * DATA}, "other target or data"),
        ({"seed": 1}, "other start and other key"),
        ({"kernel": NUTS(acceptance=0.9)}, "other kernel"),
        ({"kernel": HMC()}, "other kernel"),
        ({"num_warmup": 100}, "other warm-up"),
    ],
)
def test_a_file_is_for_one_run(options: dict, words: str, tmp_path: Path) -> None:
    path = tmp_path / "chains.npz"
    run(path, num_samples=25)
    with pytest.raises(ValueError, match=f"of another run, with {words}:"):
        run(path, **options)


def test_a_file_is_for_one_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path / "chains.npz", num_samples=25)
    monkeypatch.setattr("variate.version.__version__", "99.0")
    with pytest.raises(ValueError, match="with other version of Variate"):
        run(tmp_path / "chains.npz", num_samples=50)


def test_bad_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="checkpoint: there is no directory"):
        run(tmp_path / "none" / "chains.npz")
    whole = tmp_path / "chains.npz"
    run(whole, num_samples=25)
    (tmp_path / "short.npz").write_bytes(whole.read_bytes()[:1_000])
    with pytest.raises(ValueError, match=r"short\.npz' is not one"):
        run(tmp_path / "short.npz")
    (tmp_path / "empty.npz").touch()
    with pytest.raises(ValueError, match=r"empty\.npz' is not one"):
        run(tmp_path / "empty.npz")
    np.save(tmp_path / "array.npz", np.arange(3))
    (tmp_path / "array.npz.npy").rename(tmp_path / "array.npz")
    with np.load(whole) as file:
        arrays = dict(file)
    np.savez(tmp_path / "list.npz", **arrays | {"task": np.asarray("[1, 2]")})
    np.savez(tmp_path / "part.npz", **{name: x for name, x in arrays.items() if name != "state_0"})
    for name in ("array", "list", "part"):
        with pytest.raises(ValueError, match=rf"{name}\.npz' is not one, or not whole"):
            run(tmp_path / f"{name}.npz")


def test_a_full_disk_loses_no_draws_and_no_file_that_was_there(tmp_path: Path) -> None:
    """Files of this process may not grow beyond a size: so the kernel answers as it does where there is no room."""
    path, whole = tmp_path / "chains.npz", run(None)
    run(path, num_samples=25)
    size, (_, most) = path.stat().st_size, resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, most))
    try:
        with pytest.warns(RuntimeWarning, match=r"chains\.npz' could not be written .*the run goes on"):
            draws = run(path, num_samples=200)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        signal.signal(signal.SIGXFSZ, before)
    assert same(draws, whole)
    assert list(tmp_path.iterdir()) == [path]
    assert same(run(path), whole)  # it goes on from what was there


def test_progress_is_told_on_the_error_stream(capsys: pytest.CaptureFixture) -> None:
    run(None, progress=True)
    told = capsys.readouterr()
    assert told.out == ""
    assert "accepted" in told.err
    assert "8/8" in told.err
