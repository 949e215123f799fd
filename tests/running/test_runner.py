"""Runs in pieces: the same answer whoever does them, whatever interrupts them, and a word on why they ended."""

import contextlib
import dataclasses
import pickle
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax import Array

import variate as vt
from variate.estimates.tasks import Pieces
from variate.running import Lost, Runner
from variate.running.base import Here
from variate.running.checkpoint import Checkpoint

PIECE = 128


def square(key: Array, t: Any) -> Array:
    return vt.draw(key, dist.Normal(t, 1.0), name="x") ** 2


def share(key: Array, t: Any) -> Array:
    return jax.nn.sigmoid(vt.draw(key, dist.Normal(t, 1.0), name="x"))


ROOM, WIDE = vt.estimates, dist.Normal(0.0, 2.0)
SMOOTHED = ROOM.Importance({"x": WIDE}, self_normalized=True, smoothed=True)
CASES: dict[str, tuple[Callable, dict[str, Any]]] = {
    "independent": (square, {"num_samples": 1_000}),
    "until": (square, {"method": (), "until": vt.StdErr(0.15, min_samples=400)}),
    "sets": (square, {"method": ROOM.Antithetic(), "num_samples": 1_000}),
    "growing": (square, {"method": ROOM.Sobol(), "num_samples": 1_024}),
    "growing until": (square, {"method": ROOM.Sobol(), "until": vt.StdErr(0.03, min_samples=64)}),
    "controls": (square, {"method": ROOM.Scores(), "num_samples": 1_000}),
    "weights": (square, {"method": ROOM.Importance({"x": WIDE}), "num_samples": 1_000}),
    "self-normalised": (square, {"method": ROOM.Importance({"x": WIDE}, self_normalized=True), "num_samples": 1_000}),
    "smoothed": (square, {"method": SMOOTHED, "num_samples": 2_000}),
    "bounds": (share, {"interval": ROOM.EmpiricalBernstein(0, 1), "num_samples": 1_000}),
    "bounds until": (share, {"interval": ROOM.Betting(0, 1), "until": ROOM.Within(0.03)}),
    "function": (square, {"function": jnp.sqrt, "num_samples": 1_000}),
}


@dataclasses.dataclass(frozen=True)
class Failing:
    """Does so many pieces here, and fails at the next."""

    pieces: int
    error: type[BaseException]

    @contextlib.contextmanager
    def open(self, pieces: Pieces) -> Iterator["Failing"]:
        with Here().open(pieces) as crew:
            yield _Failing(self, crew, iter(range(self.pieces)))


@dataclasses.dataclass(frozen=True)
class _Failing:
    how: Failing
    crew: Any
    left: Iterator[int]
    ahead: int = 1

    def submit(self, index: int) -> Callable[[], Any]:
        if next(self.left, None) is None:
            raise self.how.error(f"piece {index} is gone")
        return self.crew.submit(index)


def estimate(f: Callable, runner: Runner | None, **wanted: Any) -> vt.Estimate:
    return vt.expect(f, runner=runner, block_size=32, max_samples=4_096, **wanted)(jax.random.key(3), 0.3)


def same(one: vt.Estimate, other: vt.Estimate) -> bool:
    return all(map(np.array_equal, jax.tree.leaves(one), jax.tree.leaves(other)))


@pytest.mark.wide
@pytest.mark.parametrize("name", CASES)
def test_it_is_the_same_estimate_in_pieces_and_after_interrupts(name: str, tmp_path: Path) -> None:
    f, wanted = CASES[name]
    whole = estimate(f, Runner(piece=PIECE), **wanted)
    path, ends = tmp_path / "state.npz", []
    for _ in range(50):
        found = estimate(f, Runner(Failing(2, KeyboardInterrupt), path, piece=PIECE), **wanted)
        ends.append(found.ended)
        if found.ended is None:
            break
        assert not found.converged
    assert len(ends) > 1
    assert set(ends[:-1]) == {"interrupted"}
    assert same(found, whole)
    assert str(found) == str(whole)
    # Merging block by block rounds differently; a rule looks more often, and bets begin once.
    if "until" not in wanted:
        whole, at_once = (dataclasses.replace(one, ends=None) for one in (whole, estimate(f, None, **wanted)))
        for one, other in zip(jax.tree.leaves(whole), jax.tree.leaves(at_once), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-10)
        assert whole.degrees == at_once.degrees


def test_a_lost_piece_ends_the_run_and_keeps_the_rest() -> None:
    f, wanted = CASES["independent"]
    found = estimate(f, Runner(Failing(3, Lost), piece=PIECE), **wanted)
    assert int(found.num_samples) == 3 * PIECE
    assert found.ended == "piece 3 is gone"
    assert str(found).endswith("(n=384, not converged, piece 3 is gone)")
    assert found.degrees == 3 * PIECE - 1
    with pytest.raises(Lost, match="piece 0"):
        estimate(f, Runner(Failing(0, Lost), piece=PIECE), **wanted)
    with pytest.raises(KeyboardInterrupt):
        estimate(f, Runner(Failing(0, KeyboardInterrupt), piece=PIECE), **wanted)


def test_the_time_is_limited() -> None:
    f, wanted = CASES["independent"]
    found = estimate(f, Runner(seconds=1e-9, piece=PIECE), **wanted)
    assert int(found.num_samples) == PIECE
    assert found.ended == "ended after 1e-09 s"
    assert not found.converged
    assert same(estimate(f, Runner(seconds=1e9, piece=PIECE), **wanted), estimate(f, Runner(piece=PIECE), **wanted))


def test_a_smaller_tolerance_goes_on_from_a_larger_one(tmp_path: Path) -> None:
    f, path = square, tmp_path / "state.npz"
    found = [
        estimate(f, Runner(checkpoint=path, piece=PIECE), method=(), until=vt.StdErr(error, min_samples=400))
        for error in (0.15, 0.1)
    ]
    assert found[0].num_samples < found[1].num_samples
    assert same(found[1], estimate(f, Runner(piece=PIECE), method=(), until=vt.StdErr(0.1, min_samples=400)))


def test_progress_shows_the_estimate(capsys: pytest.CaptureFixture[str]) -> None:
    f, wanted = CASES["independent"]
    found = estimate(f, Runner(progress=True, piece=PIECE), **wanted)
    out, err = capsys.readouterr()
    assert out == ""
    assert str(found).split(" (")[0] in err
    assert "8/8 pieces" in err


def tasks() -> dict[str, Pieces]:
    """Tasks that differ, by what a message says of them."""
    found: dict[str, Pieces] = {}

    def catch(
        name: str, f: Callable, seed: int = 0, t: Any = 0.3, num_samples: int = 1_000, piece: int = PIECE
    ) -> None:
        class Catching:
            def run(self, task: Any) -> Any:
                found[name] = task.pieces(piece)
                return Runner().run(task)

        vt.expect(f, num_samples=1_000, block_size=32, runner=Catching())(jax.random.key(seed), t)

    def with_table(table: Any) -> Callable:
        def looped(key: Array, t: Any) -> Array:
            add = jax.jit(lambda x: x + jnp.sum(table * x))
            return jax.lax.fori_loop(0, 2, lambda _, x: add(x), square(key, t))

        return looped

    catch("the same", with_table(np.arange(99.0)))
    catch("the same again", with_table(np.arange(99.0)))
    catch("key", with_table(np.arange(99.0)), seed=1)
    catch("arguments", with_table(np.arange(99.0)), t=0.4)
    catch("function, method, pieces or number of samples", with_table(np.arange(1.0, 100.0)))
    return found


def test_a_checkpoint_is_for_one_task(tmp_path: Path) -> None:
    found, path = tasks(), tmp_path / "state.npz"
    first = found.pop("the same")
    Checkpoint(path, first).save(1, first.piece(0))
    assert Checkpoint(path, found.pop("the same again")).load()[0] == 1
    assert Checkpoint(path, pickle.loads(cloudpickle.dumps(first))).load()[0] == 1
    assert list(tmp_path.iterdir()) == [path]
    with np.load(path) as file:
        assert float(file["value_0"]) == float(first.estimate(1, first.piece(0)).value)
    for what, other in found.items():
        with pytest.raises(ValueError, match=f"another run, with other {re.escape(what)}:"):
            Checkpoint(path, other).load()


def test_bad_checkpoints_are_named(tmp_path: Path) -> None:
    f, wanted = CASES["independent"]
    with pytest.raises(ValueError, match="checkpoint: there is no directory"):
        estimate(f, Runner(checkpoint=tmp_path / "none" / "state.npz"), **wanted)
    (tmp_path / "text.npz").write_text("not an archive")
    with pytest.raises(ValueError, match=re.escape("text.npz' is not one")):
        estimate(f, Runner(checkpoint=tmp_path / "text.npz"), **wanted)


@pytest.mark.parametrize(
    ("error", "words", "make"),
    [
        (TypeError, "workers must be Processes", lambda: Runner(2)),
        (TypeError, "workers must be Processes", lambda: Runner(vt.running.Processes)),
        (ValueError, "seconds must be a positive number", lambda: Runner(seconds=0)),
        (ValueError, "piece must be a positive integer", lambda: Runner(piece=0)),
        (ValueError, "count must be a positive integer", lambda: vt.running.Processes(0)),
        (ValueError, "cpus must be a positive number", lambda: vt.running.Ray(cpus=0)),
        (TypeError, "runner must be a runner", lambda: vt.expect(square, runner=4)),
        (TypeError, "runner must be a runner", lambda: vt.expect(square, runner=Runner)),
        (TypeError, "not under jit", lambda: jax.jit(vt.expect(square, runner=Runner()))(jax.random.key(0), 0.3)),
    ],
)
def test_bad_input(error: type[Exception], words: str, make: Callable) -> None:
    with pytest.raises(error, match=words):
        make()


def test_messages_are_those_of_a_run_at_once() -> None:
    runner = Runner(piece=PIECE)
    with pytest.raises(ValueError, match="scale"):
        vt.expect(lambda key: vt.draw(key, dist.Normal(0.0, -1.0)), runner=runner)(jax.random.key(0))
    with pytest.raises(ValueError, match="results were not between 0 and 1"):
        estimate(square, runner, interval=ROOM.Hoeffding(0, 1), num_samples=500)
    found = estimate(lambda key, t: jnp.log(square(key, t) - 1), runner, num_samples=500)
    assert int(found.nonfinite) > 0
    heavy = estimate(lambda key, t: vt.draw(key, dist.Pareto(1.0, 1.2)), runner, num_samples=4_000)
    assert np.isnan(heavy.stderr)
