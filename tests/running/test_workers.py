"""Worker processes and clusters do what this process does, bit for bit, whoever of them dies."""

import contextlib
import dataclasses
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax import Array

import variate as vt
from variate.estimates.tasks import Pieces
from variate.running import Devices, Lost, Processes, Ray, Runner, processes
from variate.running.base import environment, packed, unpacked

PIECE = 256


def estimate(runner: Runner, **wanted: Any) -> vt.Estimate:
    table, power = jnp.arange(3.0), 2

    def f(key: Array, law: dist.Normal) -> dict[str, Array]:  # sent as it is, for no worker can import this module
        x = vt.draw(key, law, name="x")
        return {"power": x**power, "table": table * jnp.sin(x)}

    wanted = {"num_samples": 2_000, **wanted}
    return vt.expect(f, runner=runner, block_size=64, **wanted)(jax.random.key(3), dist.Normal(0.3, 1.0))


def same(one: vt.Estimate, other: vt.Estimate) -> bool:
    return str(one) == str(other) and all(map(np.array_equal, jax.tree.leaves(one), jax.tree.leaves(other)))


@dataclasses.dataclass(frozen=True)
class Killing:
    """Two processes, of which one is killed when the first piece is done."""

    crews: list[Any]

    @contextlib.contextmanager
    def open(self, pieces: Pieces) -> Iterator["_Killing"]:
        with Processes(2).open(pieces) as crew:
            self.crews.append(crew)
            yield _Killing(crew)


@dataclasses.dataclass(frozen=True)
class _Killing:
    crew: Any

    @property
    def ahead(self) -> int:
        return self.crew.ahead

    def submit(self, index: int) -> Callable[[], Any]:
        wait = self.crew.submit(index)

        def waiting() -> Any:
            found = wait()
            if index == 0:
                self.crew.started[-1].kill()
            return found

        return waiting


def test_two_processes_and_one_that_is_killed_give_the_same() -> None:
    own, crews = estimate(Runner(piece=PIECE)), []
    assert same(estimate(Runner(Killing(crews), piece=PIECE)), own)
    assert len(crews[0].started) == 3  # one in the place of the one that was killed, and no more
    assert all(process.poll() is not None for process in crews[0].started)


@pytest.mark.slow
@pytest.mark.table
def test_a_task_is_the_same_after_it_was_sent() -> None:
    class Catching:
        def run(self, task: Any) -> Any:
            found.append(task.pieces(PIECE))
            return Runner().run(task)

    found: list[Pieces] = []
    importance = vt.estimates.Importance({"x": dist.Normal(0.0, 2.0)})
    for wanted in ({}, {"method": (vt.estimates.Sobol(), importance)}):
        estimate(Catching(), **wanted)
        again = unpacked(packed(found[-1]))
        assert again.fingerprint() == found[-1].fingerprint()
        assert all(map(np.array_equal, jax.tree.leaves(again.piece(1)), jax.tree.leaves(found[-1].piece(1))))


def test_a_piece_that_kills_its_workers_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def dead(crew: Any) -> subprocess.Popen:
        worker = subprocess.Popen([sys.executable, "-c", ""], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        crew.started.append(worker)
        return worker

    monkeypatch.setattr(processes._Crew, "_start", dead)
    with pytest.raises(Lost, match="piece 0 lost 3 workers"):
        estimate(Runner(Processes(1), piece=PIECE))


def test_what_a_piece_raises_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import pickle, sys; pickle.dump('MemoryError: no more', sys.stdout.buffer); sys.stdout.flush(); input()"

    def poor(crew: Any) -> subprocess.Popen:
        worker = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        crew.started.append(worker)
        return worker

    monkeypatch.setattr(processes._Crew, "_start", poor)
    with pytest.raises(Lost, match="piece 0 failed in a worker: MemoryError: no more"):
        estimate(Runner(Processes(1), piece=PIECE))


def test_what_cannot_be_sent_is_named() -> None:
    stream = sys.stdout
    with pytest.raises(TypeError, match="must be picklable"):
        vt.expect(lambda key: (stream.name, vt.draw(key, dist.Normal()))[1], runner=Runner(Processes(1)))(
            jax.random.key(0)
        )


SCRIPT = """
import sys, jax, numpyro.distributions as dist, variate as vt
runner = vt.running.Runner(checkpoint=sys.argv[1], piece=2**14)
f = lambda key: vt.draw(key, dist.Normal()) ** 2
found = vt.expect(f, num_samples=2**14 * int(sys.argv[2]), block_size=1024, runner=runner)(jax.random.key(0))
print(found.value.item().hex())
"""


@pytest.mark.slow
def test_a_process_that_is_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    path, count = tmp_path / "state.npz", "3000"
    command = [sys.executable, "-c", SCRIPT, str(path), count]
    first = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE)
    while not path.exists():
        time.sleep(0.02)
        assert first.poll() is None
    first.send_signal(signal.SIGKILL)
    assert first.communicate()[0] == b""
    with np.load(path) as file:
        assert 0 < int(file["done"]) < int(count)
    again = subprocess.run(command, env=environment(), stdout=subprocess.PIPE, check=True)
    command[3] = str(tmp_path / "other.npz")
    assert again.stdout == subprocess.run(command, env=environment(), stdout=subprocess.PIPE, check=True).stdout


SEVERAL = """
import jax, jax.numpy as jnp, numpyro.distributions as dist, variate as vt
from variate.estimates.tasks import Pieces
from variate.running import Devices, Runner
f = lambda key, t: {"power": (x := vt.draw(key, dist.Normal(t, 1.0))) ** 2, "sine": jnp.sin(x)}
used, on = [], Pieces.on
Pieces.on = lambda pieces, device: (used.append(device), on(pieces, device))[1]
for workers in (None, Devices(), Devices(jax.local_devices()[1:])):
    for wanted in ({"num_samples": 3_000}, {"until": vt.StdErr(0.02), "method": vt.estimates.Sobol()}):
        found = vt.expect(f, **wanted, runner=Runner(workers, piece=256))(jax.random.key(0), 0.3)
        print([leaf.item().hex() for leaf in jax.tree.leaves((found.value, found.stderr))])
print(used == [*jax.local_devices()] * 2 + [*jax.local_devices()[1:]] * 2, len(jax.local_devices()))
"""


@pytest.mark.slow
@pytest.mark.table
def test_several_devices_give_the_same() -> None:
    three = environment() | {"XLA_FLAGS": "--xla_force_host_platform_device_count=3"}
    run = subprocess.run([sys.executable, "-c", SEVERAL], env=three, stdout=subprocess.PIPE, check=True, text=True)
    *answers, used = run.stdout.splitlines()
    assert used == "True 3"
    assert len(answers) == 6
    assert answers[0::2] == answers[:1] * 3
    assert answers[1::2] == answers[1:2] * 3


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        (3, TypeError, "devices must be a list of devices"),
        (["cpu:0"], TypeError, "devices must be devices of jax.local_devices"),
        ([], ValueError, "one or more, each once"),
        (jax.local_devices()[:1] * 2, ValueError, "one or more, each once"),
    ],
)
def test_devices_are_checked(given: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        Devices(given)


@pytest.mark.slow
def test_a_ray_cluster_gives_the_same() -> None:
    with Ray().open(SimpleNamespace(piece=int, like=int)):  # one cluster for all that follows
        assert same(estimate(Runner(Ray(), piece=PIECE)), estimate(Runner(piece=PIECE)))
        assert all(map(np.array_equal, chains(Runner(Ray(), groups=3)), chains(Runner(groups=3))))


def chains(runner: Runner) -> list[Array]:
    options: Any = {"kernel": vt.mcmc.RandomWalk(1.0), "num_samples": 50, "num_warmup": 25, "num_chains": 5}
    return jax.tree.leaves(vt.sample(jax.random.key(0), lambda x: -0.5 * x @ x, jnp.zeros(2), runner=runner, **options))
