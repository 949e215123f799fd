"""Chains that are shared out to workers are those of one process, bit for bit, whoever dies or interrupts."""

import contextlib
import dataclasses
import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import variate as vt
from variate.mcmc import RandomWalk, Stretch
from variate.running import Lost, Processes, Runner, sharing
from variate.running.base import Here
from variate.running.sharing import Groups
from variate.running.steps import Group

THREE = 3  # groups of five chains: of two each, one of them twice


def law() -> Callable[[jax.Array], jax.Array]:
    power = jnp.array([1.0, 2.0])
    return lambda x: -0.5 * jnp.sum(power * (x - 1) ** 2)  # sent as it is, for no worker can import this module


LAW = law()


def run(runner: Runner | None, how: Callable[..., Any] = vt.sample, **options: Any) -> Any:
    options = {"kernel": RandomWalk(1.0), "num_samples": 100, "num_warmup": 25, "num_chains": 5, **options}
    return how(jax.random.key(0), LAW, start=jnp.zeros(2), runner=runner, **options)


def arrays(found: Any) -> list[np.ndarray]:
    return [np.asarray(x) for x in jax.tree.leaves(found)]


def same(one: Any, other: Any) -> bool:
    return all(np.array_equal(x, y, equal_nan=True) for x, y in zip(arrays(one), arrays(other), strict=True))


def near(one: Any, other: Any) -> bool:
    """But for rounding, which decides no step of so few."""
    return all(np.allclose(x, y, 1e-9, 1e-9) for x, y in zip(arrays(one), arrays(other), strict=True))


@dataclasses.dataclass(frozen=True)
class Meddling:
    """Workers at whose so-manieth piece something happens."""

    workers: Any
    at: int
    happens: Callable[[Any], None]
    crews: list[Any] = dataclasses.field(default_factory=list)

    @contextlib.contextmanager
    def open(self, pieces: Any) -> Iterator["_Meddling"]:
        with self.workers.open(pieces) as crew:
            self.crews.append(crew)
            yield _Meddling(self, crew, itertools.count())


@dataclasses.dataclass(frozen=True)
class _Meddling:
    how: Meddling
    crew: Any
    begun: Iterator[int]
    ahead: int = 1

    def submit(self, order: Any) -> Callable[[], Any]:
        if next(self.begun) == self.how.at:
            self.how.happens(self.crew)
        return self.crew.submit(order)


def fail(error: BaseException) -> Callable[[Any], None]:
    def failing(crew: Any) -> None:
        raise error

    return failing


@pytest.mark.parametrize(
    ("how", "options"),
    [
        (vt.sample, {}),
        (vt.sample, {"kernel": Stretch(walkers=6), "num_samples": 30}),
        (vt.mcmc.fold, {"num_chains": 31, "f": jnp.sin}),
    ],
)
def test_groups_are_the_chains_of_one_loop(how: Callable[..., Any], options: dict[str, Any]) -> None:
    assert near(run(Runner(groups=THREE), how, **options), run(None, how, **options))


def test_groups_with_keys_or_places_of_others_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    class First(Group):
        def keys(self, key: jax.Array, count: int) -> jax.Array:
            return jax.random.split(key, count)

    whole = run(None)
    monkeypatch.setattr(sharing, "Group", First)
    assert not near(run(Runner(groups=THREE)), whole)
    monkeypatch.undo()
    monkeypatch.setattr(Groups, "_group", lambda groups, first, state: jax.tree.map(lambda x: x[:2], state))
    assert not near(run(Runner(groups=THREE)), whole)


@pytest.mark.slow
@pytest.mark.table
def test_two_processes_and_one_that_is_killed_give_the_same() -> None:
    killing = Meddling(Processes(2), 4, lambda crew: crew.started[-1].kill())  # in the midst of its first pieces
    assert same(run(Runner(killing, groups=THREE)), run(Runner(groups=THREE)))
    (crew,) = killing.crews
    assert len(crew.started) == 3  # one in the place of the one that was killed, and no more
    assert all(process.poll() is not None for process in crew.started)


@pytest.mark.parametrize(
    ("error", "words"), [(KeyboardInterrupt(), "interrupted"), (Lost("piece 3 is gone"), "piece 3 is gone")]
)
def test_what_ends_it_leaves_the_draws_so_far_and_it_goes_on(error: Any, words: str, tmp_path: Path) -> None:
    whole, path = run(Runner(groups=THREE)), tmp_path / "chains.npz"
    # The first block of three groups is read, and then the second, of which the last is not begun any more.
    early = run(Runner(Meddling(Here(), 2 * THREE + 2, fail(error)), groups=THREE), checkpoint=path)
    assert early.ended == words
    assert np.array_equal(early.values, whole.values[:, :25])
    assert same(run(Runner(groups=THREE), checkpoint=path), whole)
    with pytest.raises(type(error)):  # there are no draws yet
        run(Runner(Meddling(Here(), 1, fail(error)), groups=THREE))


def test_a_rule_ends_it() -> None:
    whole = run(Runner(groups=THREE))
    early = run(Runner(groups=THREE), until=vt.ESS(30))
    assert early.ended is None
    assert 25 <= early.values.shape[1] < 100
    assert np.array_equal(early.values, whole.values[:, : early.values.shape[1]])


def test_what_cannot_be_sent_is_named() -> None:
    lock = threading.Lock()
    with pytest.raises(TypeError, match=r"f or target, .*, must be picklable"):
        vt.sample(
            jax.random.key(0),
            lambda x: -0.5 * x @ x if lock.locked() else -x @ x,
            jnp.ones(2),
            runner=Runner(Processes(1)),
        )
