"""Targets from bare log densities, distributions and NumPyro's models: one protocol, no surprise."""

from collections.abc import Callable
from typing import Any

import flowjax.distributions as flow
import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
import pytest
from programs.models import MODELS

import variate as vt
from variate.programs import Conditioned, LogDensity, NumPyroModel, distribution_target
from variate.protocols import Target


def normal(x: dict[str, jax.Array], centre: jax.Array) -> jax.Array:
    return -0.5 * jnp.sum((x["a"] - centre) ** 2) - 0.5 * x["b"] ** 2


AT = {"a": jnp.arange(3.0), "b": jnp.asarray(0.5)}


def test_a_bare_log_density_is_a_target_of_its_data(key: jax.Array) -> None:
    traced = []

    def counted(x: dict[str, jax.Array], centre: jax.Array) -> jax.Array:
        traced.append(x)
        return normal(x, centre)

    first, second = LogDensity(counted, AT, jnp.zeros(3)), LogDensity(counted, AT, jnp.ones(3))
    assert isinstance(first, Target)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, first.start(key), AT))
    slope = jax.jit(lambda target: jax.grad(target.log_density)(AT)["a"])
    before = (slope(first), len(traced))[1]
    assert jnp.array_equal(slope(second) - slope(first), jnp.ones(3))
    assert len(traced) == before
    assert jnp.allclose(first.log_density(AT), normal(AT, jnp.zeros(3)), rtol=1e-15)
    assert first.constrain(AT) is AT
    assert first.unconstrain(AT) is AT


@pytest.mark.wide
@pytest.mark.parametrize("name", ["hierarchical", "scan", "lanes and steps"])
def test_a_model_of_numpyros_is_its_twin(name: str, key: jax.Array) -> None:
    model = MODELS[name]
    ours, theirs = vt.condition(model.ours, **model.data), NumPyroModel(model.theirs, **model.data)
    assert isinstance(theirs, Target)
    position = theirs.start(key)
    assert set(theirs.names) == set(ours.names)
    assert jnp.allclose(ours.log_density(position), theirs.log_density(position), rtol=1e-12)
    values = theirs.constrain(position)
    mine, back = ours.constrain(position), theirs.unconstrain(values)
    assert all(jnp.allclose(values[draw], mine[draw], rtol=1e-12) for draw in ours.names)
    assert all(jnp.allclose(back[draw], position[draw], rtol=1e-9, atol=1e-9) for draw in ours.names)


def test_distributions_are_targets(key: jax.Array) -> None:
    beta = distribution_target(dist.Beta(2.0, 3.0))
    assert 0 < beta.constrain(beta.start(key))["x"] < 1
    assert abs(beta.log_density({"x": jnp.asarray(0.0)}) - jnp.log(12 * 0.5**3 * 0.25)) < 1e-12
    both = distribution_target(flow.Normal(jnp.zeros(2), jnp.ones(2)), jnp.ones(2))
    assert isinstance(both, Target)
    assert abs(both.log_density(jnp.ones(2)) + 1 + jnp.log(2 * jnp.pi)) < 1e-12


CENTRE = {"at": 0.0}


def around(x: jax.Array) -> jax.Array:
    return -0.5 * (x - CENTRE["at"]) ** 2


def program(key: jax.Array) -> None:
    vt.draw(key, dist.Normal(CENTRE["at"], 1.0), name="x")


def theirs() -> None:
    numpyro.sample("x", dist.Normal(CENTRE["at"], 1.0))


@pytest.mark.parametrize(
    "make",
    [lambda: LogDensity(around, 2.0), lambda: vt.condition(program), lambda: NumPyroModel(theirs)],
    ids=["bare", "program", "numpyro"],
)
def test_what_a_function_reads_is_read_again(make: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    slope = jax.jit(lambda target, x: jax.grad(target.log_density)(x))
    found = []
    for centre in (0.0, 5.0, 0.0):
        monkeypatch.setitem(CENTRE, "at", centre)
        target = make()
        at = 2.0 if isinstance(target, LogDensity) else {"x": jnp.asarray(2.0)}
        found.append(float(jax.tree.leaves(slope(target, at))[0]))
    assert found == [-2.0, 3.0, -2.0]


def improper(y: jax.Array) -> None:
    mu = numpyro.sample("mu", dist.ImproperUniform(dist.constraints.real, (), ()))
    numpyro.sample("y", dist.Normal(mu, 1.0), obs=y)


def test_a_prior_that_cannot_be_drawn_from_is_none_the_less_a_density() -> None:
    target = NumPyroModel(improper, jnp.array([1.0, 3.0]))
    assert abs(jax.grad(target.log_density)({"mu": jnp.asarray(1.5)})["mu"] - 1.0) < 1e-12


def triangle() -> None:
    numpyro.sample("x", dist.LKJCholesky(2, 2.0))


def test_constants_of_a_support_are_those_of_its_twin() -> None:
    with jax.numpy_dtype_promotion("standard"):
        theirs, ours = NumPyroModel(triangle), distribution_target(dist.LKJCholesky(2, 2.0).expand([2]))
    assert isinstance(ours, Conditioned)
    assert theirs.constants == {"x": (0, 1)}
    assert ours.constants == {"x": (0, 1, 4, 5)}


def some() -> None:
    with numpyro.plate("items", 10, subsample_size=2):
        numpyro.sample("x", dist.Normal(0.0, 1.0))


def discrete() -> None:
    numpyro.sample("n", dist.Poisson(2.0))


def free() -> None:
    numpyro.param("p", jnp.asarray(1.0))


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (
            lambda: LogDensity(lambda x: -(x**2), jnp.zeros(3)),
            TypeError,
            r"must return one real number, got float64\[3\]",
        ),
        (lambda: LogDensity(lambda x: None, 1.0), TypeError, "must return one real number, got None"),
        (lambda: LogDensity(lambda x: {"a": x}, 1.0), TypeError, "must return one real number, got an object of type"),
        (lambda: LogDensity(lambda x: jnp.log(x), jnp.asarray(-1.0)), ValueError, "finite log density, got nan"),
        (lambda: LogDensity(lambda x: jnp.log(x), jnp.asarray(0.0)), ValueError, "finite log density, got -inf"),
        (lambda: LogDensity(lambda x: -(x**2), 3), TypeError, "start must be real, got 3"),
        (
            lambda: LogDensity(normal, AT, jnp.zeros(3)).log_density({"a": jnp.zeros(3)}),
            ValueError,
            "the shapes of start",
        ),
        (lambda: distribution_target(dist.Poisson(2.0)), TypeError, "the draw 'x'.*is discrete"),
        (lambda: distribution_target(3.0), TypeError, r"must have log_prob\(x\), got 3.0"),
        (lambda: distribution_target(flow.Normal(jnp.zeros(2))), TypeError, "start must be a position"),
        (lambda: NumPyroModel(triangle).unconstrain({"y": jnp.eye(2)}), ValueError, "values: 'x' missing"),
        (lambda: NumPyroModel(discrete), TypeError, "the site 'n' is discrete"),
        (lambda: NumPyroModel(free), TypeError, "the site 'p' is a param"),
        (lambda: NumPyroModel(some), TypeError, "the plate 'items' is subsampled"),
    ],
)
def test_wrong_targets_are_named(make: Callable[[], Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        make()
