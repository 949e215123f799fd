"""A searched solver is made of formulas that are known, ends nearer than each of them, and is the same each time."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from diffusion.problems import PROCESSES, Planned, mixture
from jaxtyping import Array
from scipy.integrate import quad

from variate.diffusion import (
    DEIS,
    Denoiser,
    DPMSolver,
    DPMSolverPP,
    Fitted,
    Flow,
    Level,
    Prediction,
    Process,
    Searched,
    Solver,
    UniPC,
    fit,
    sample,
    search,
    uniform,
    uniform_log_snr,
)
from variate.diffusion.fitted.candidates import Candidate, Made, Space, plans, table
from variate.diffusion.fitted.descent import usual
from variate.diffusion.fitted.search import losses, squares
from variate.diffusion.fitted.trajectories import trajectories
from variate.diffusion.processes.base import exact_levels
from variate.diffusion.solvers.base import Linear, both, data

PROCESS = PROCESSES["variance preserving"]
TRACED: list[int] = []
SHAPE = (64, 2)


class Counted(Denoiser):
    """A model that knows how often a program was made of it."""

    model: Denoiser
    process: Process

    def __init__(self, model: Denoiser) -> None:
        self.model, self.process = model, model.process

    def predict(self, x: Array, level: Level) -> Prediction:
        TRACED.append(1)
        return self.model.predict(x, level)


PLAIN = mixture(PROCESS)
MODEL = Counted(PLAIN)
SPACE = Space(PROCESS, 4, 1.0, 0.0)
NAMES: tuple[Solver, ...] = (
    *(DPMSolverPP(order) for order in (2, 3, 1)),
    *(UniPC(order) for order in (1, 2, 3)),
    *(DPMSolver(order) for order in (2, 3)),
    *(UniPC(order, of_noise=True) for order in (1, 2, 3)),
    *(DEIS(order, in_rho) for in_rho in (False, True) for order in (2, 3)),
)


@functools.cache
def found() -> Searched:
    return search(jax.random.key(0), MODEL, 4, SHAPE, candidates=248)


def planned(steps: list[Made], times: np.ndarray) -> Linear:
    return plans(PROCESS, [Candidate(tuple(steps), times)], PROCESS.time_of)[0]


def numbers(solver: Any, times: Any) -> np.ndarray:
    return table(solver.plan(PROCESS, np.asarray(times)))


def test_it_begins_from_solvers_that_have_names() -> None:
    starts, grids = [*SPACE.starts()], [*SPACE.grids()]
    assert len(starts) == len(NAMES) * len(grids)
    for i, solver in enumerate(NAMES):
        j = (1, len(grids) - 2)[i % 2]  # equal steps of lambda and then to no noise, and equal ones of time
        candidate = starts[i * len(grids) + j]
        np.testing.assert_array_equal(candidate.times, grids[j])
        ours = plans(PROCESS, [candidate], PROCESS.time_of)[0]
        np.testing.assert_allclose(table(ours), numbers(solver, grids[j]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("change", [{"order": 1}, {"corrector": 2}, {"formula": "data"}, {"formula": "noise, B2"}])
def test_another_choice_at_one_step_is_another_plan(change: dict[str, Any]) -> None:
    times = np.array([1.0, 0.6, 0.3, 0.1, 0.02])
    made = [Made("data, B2", 2, 3)] * 4
    changed = planned([made[0], made[1], made[2]._replace(**change), made[3]], times)
    assert np.max(np.abs(table(changed) - table(planned(made, times)))) > 1e-3


def loop(steps: list[Made], times: np.ndarray, start: np.ndarray, wrong: str = "") -> np.ndarray:
    """The sampler of the paper: lists of points and of both predictions, and a Taylor polynomial at each step."""
    level, x = exact_levels(PROCESS, times), start
    lambdas = np.log(level.alpha / level.sigma)
    ask: Any = jax.vmap(lambda x, t: tuple(PLAIN.predict(x, PROCESS.level(t))), (0, None))
    seen: list[tuple[np.ndarray, ...]] = []
    points: list[np.ndarray] = []

    def moved(i: int, made: Made, x: np.ndarray, nodes: list[int]) -> np.ndarray:
        of_data = made.formula.startswith("data") ^ (wrong == "the other prediction" and i + 1 in nodes)
        values = [seen[j][0 if made.formula.startswith("data") else 1] for j in nodes]
        rate, s, t = (1.0 if of_data else -1.0), lambdas[i], lambdas[i + 1]
        out = (level.sigma[i + 1] / level.sigma[i] if of_data else level.alpha[i + 1] / level.alpha[i]) * x
        for j, value in zip(nodes, values, strict=True):

            def basis(at: float, j: int = j) -> float:
                others = [lambdas[k] for k in nodes if k != j]
                return float(np.exp(rate * at) * np.prod([(at - other) / (lambdas[j] - other) for other in others]))

            weight = quad(basis, s, t, epsabs=1e-13, epsrel=1e-13)[0]
            out = out + (level.sigma[i + 1] if of_data else -level.alpha[i + 1]) * weight * value
        return out

    for i, made in enumerate(steps):
        seen.append(tuple(np.asarray(one) for one in ask(jnp.asarray(x), times[i])))
        if i and steps[i - 1].corrector and wrong != "no corrector":
            back = range(i, max(i - steps[i - 1].corrector, -1), -1)
            x = moved(i - 1, steps[i - 1], points[-1], [*back])
        points.append(x)
        order = made.order - (wrong == "orders of the first step" and i > 0 and made.order > 1)
        x = moved(i, made, x, [*range(i, max(i - order, -1), -1)])
    return x


def test_a_mixed_plan_is_the_loop_of_the_paper() -> None:
    """Formulas with exact integrals, so that polynomials integrated by quadrature are an oracle of their own."""
    times = np.array([1.0, 0.7, 0.45, 0.2, 0.08, 0.02])
    steps = [Made("noise", 1, 2), Made("data", 2, 3), Made("data", 2, 0), Made("noise", 3, 4), Made("data", 3, 0)]
    start = np.asarray(jax.random.normal(jax.random.key(1), (20, 2)))
    plan = planned(steps, times)
    assert plan.kept is both
    ends = sample(jax.random.key(0), PLAIN, Planned(plan), times, start.shape, start=jnp.asarray(start)).values
    np.testing.assert_allclose(ends, loop(steps, times, start), rtol=1e-8, atol=1e-8)
    for wrong in ("no corrector", "the other prediction", "orders of the first step"):
        assert np.max(np.abs(ends - loop(steps, times, start, wrong))) > 1e-3, wrong


def test_one_candidate_is_the_simplest_solver() -> None:
    one = search(jax.random.key(0), MODEL, 4, SHAPE, candidates=1)
    assert one.before == one.after
    np.testing.assert_allclose(numbers(one, one.times), numbers(DPMSolverPP(), one.times), rtol=0, atol=1e-12)


@pytest.mark.slow
@pytest.mark.table
def test_it_ends_nearer() -> None:
    """Than the best formula to begin from: by the loss that it was judged by, and on fresh draws by five errors."""
    one = found()
    judged_by, ends = jax.random.split(jax.random.key(0), 3)[0], np.array([1.0, 0.0])
    exact, fresh = (trajectories(key, MODEL, ends, SHAPE) for key in (judged_by, jax.random.key(5)))
    each = [*SPACE.starts(), Candidate(one.steps, np.asarray(one.times))]
    judged = squares(MODEL, SPACE, each, exact)
    nearest = judged[np.argmin(np.mean(judged, axis=1))]
    by_loss = losses(judged, 3 * usual(np.sqrt(nearest), np.float64))
    assert by_loss[-1] < np.min(by_loss[:-1])
    after, before = squares(MODEL, SPACE, [each[-1], each[np.argmin(by_loss[:-1])]], fresh)
    gain = np.log(before / after)
    assert np.mean(gain) > 5 * np.std(gain) / np.sqrt(len(gain))
    assert one.after.rms < one.before.rms


@pytest.mark.slow
@pytest.mark.table
def test_all_candidates_run_in_the_same_programs_and_the_same_key_finds_the_same() -> None:
    again = search(jax.random.key(0), MODEL, 4, SHAPE, candidates=248)
    assert again == found()
    TRACED.clear()
    other = search(jax.random.key(1), MODEL, 4, SHAPE, candidates=184)
    assert len(TRACED) < 20  # of the errors at the end, and of the point that the model is known by: not of candidates
    assert other.times != again.times


def test_it_comes_back_from_a_file(tmp_path: Path) -> None:
    found().save(tmp_path / "solver.npz")
    again = Searched.load(tmp_path / "solver.npz")
    assert again == found()
    np.testing.assert_array_equal(numbers(again, again.times), numbers(found(), again.times))
    with pytest.raises(ValueError, match="path must be a file that save wrote of Fitted"):
        Fitted.load(tmp_path / "solver.npz")


def test_another_model_or_schedule_is_refused() -> None:
    with pytest.raises(ValueError, match="times must be those that the solver was fitted for"):
        sample(jax.random.key(0), MODEL, found(), uniform(PROCESS, 4), (5, 2))
    with pytest.raises(ValueError, match="fitted to another model"):
        sample(jax.random.key(0), mixture(PROCESSES["EDM"]), found(), found().times, (5, 2))


def test_a_mixed_plan_is_fitted_and_comes_back_from_a_file(tmp_path: Path) -> None:
    times = uniform_log_snr(PROCESS, 3)
    mixed = planned([Made("noise", 1, 2), Made("data", 2, 3), Made("data", 2, 0)], times)
    made = fit(jax.random.key(0), PLAIN, Planned(mixed), times, (32, 2), depth=2)
    assert made.stages.kept is both
    assert made.after.rms < made.before.rms
    made.save(tmp_path / "solver.npz")
    again = Fitted.load(tmp_path / "solver.npz")
    one, two = (sample(jax.random.key(0), PLAIN, solver, times, (5, 2)).values for solver in (made, again))
    np.testing.assert_array_equal(one, two)


def test_where_nothing_but_noise_is_left_the_first_step_is_of_the_data() -> None:
    process = Flow()
    space = Space(process, 3, 1.0, 0.0)
    generator, pool = np.random.default_rng(0), [*space.starts()]
    children = [space.bred(generator, pool) for _ in range(50)]
    assert all(np.all(np.isfinite(table(plan))) for plan in plans(process, pool + children, space.time_of))
    assert {one.steps[0].formula.split(",")[0] for one in pool + children} == {"data"}
    assert {one.steps[1].formula.split(",")[0] for one in pool + children} == {"data", "noise"}
    assert plans(process, pool[:1], space.time_of)[0].kept is data


@pytest.mark.parametrize("end", [0.0, 0.01])
def test_children_keep_the_ends_and_fall(end: float) -> None:
    space = Space(PROCESS, 5, 0.9, end)
    generator, pool = np.random.default_rng(0), [*space.starts()]
    for _ in range(8):
        pool = [space.bred(generator, pool) for _ in range(20)]
        for child in pool:
            assert (child.times[0], child.times[-1], len(child.times)) == (0.9, end, 6)
            assert np.all(np.diff(child.times) < 0)
            assert child.times[-2] >= 0.999 * space.floor
    single = Space(PROCESS, 1, 0.9, end)
    assert single.bred(generator, [*single.starts()]).times.tolist() == [0.9, end]


def test_times_are_looked_up_nearly_as_found() -> None:
    lambdas = np.linspace(-4.9, 9.0, 500)
    np.testing.assert_allclose(SPACE.time_of(lambdas), PROCESS.time_of(lambdas), rtol=1e-7)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: search(jax.random.key(0), MODEL, 0, SHAPE), ValueError, "evaluations must be a positive integer"),
        (
            lambda: search(jax.random.key(0), MODEL, 4, SHAPE, candidates=0),
            ValueError,
            "candidates must be a positive integer",
        ),
        (
            lambda: search(jax.random.key(0), MODEL, 4, SHAPE, forgiven=-1.0),
            ValueError,
            "forgiven must be a positive number",
        ),
        (lambda: search(jax.random.key(0), MODEL, 4, SHAPE, end=2.0), ValueError, "start and end must be times"),
        (lambda: search(jax.random.key(0), UniPC(), 4, SHAPE), TypeError, "model must be"),
        (lambda: search(jax.random.key(0), MODEL, 4, (0, 2)), ValueError, "shape must be"),
    ],
)
def test_what_cannot_be_searched_is_refused(call: Callable[[], Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()
