"""`condition`: NumPyro's potential energy in NumPyro's coordinates, starts, and what has no coordinates."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax.flatten_util import ravel_pytree
from numpyro.distributions import constraints
from numpyro.infer.util import potential_energy
from programs.models import MODELS, chain, schools

import variate as vt
from variate.programs import conditioning, coordinates, weighing
from variate.programs.distributions import numpyro_promotion
from variate.protocols import Target

Y = MODELS["hierarchical"].data["y"]


def disagreement(name: str, key: jax.Array) -> float:
    """Largest over three positions, relative to the size of what is added up."""
    model = MODELS[name]
    target = vt.condition(model.ours, **model.data)
    flat, position = ravel_pytree(target.start(key))

    @jax.jit
    def both(scale: jax.Array) -> tuple[jax.Array, jax.Array]:
        at = position(scale * flat)
        with numpyro_promotion():
            return target.log_density(at), -potential_energy(model.theirs, (), model.data, at)

    each = [both(scale) for scale in (0.0, 0.5, 1.0)]
    return max(float(abs(ours - theirs) / max(1.0, abs(theirs))) for ours, theirs in each)


@pytest.mark.wide
@pytest.mark.parametrize("name", MODELS)
def test_the_density_is_numpyros_potential_energy(name: str, key: jax.Array) -> None:
    assert disagreement(name, key) < 1e-12


def test_the_comparison_sees_a_missing_change_of_volume(key: jax.Array, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = coordinates.as_coordinates

    def without_volume(site: Any, distribution: Any, given: list) -> weighing.Read:
        return whole(site, distribution, given)._replace(volume=0.0)

    jax.clear_caches()
    monkeypatch.setattr(conditioning, "as_coordinates", without_volume)
    assert disagreement("hierarchical", key) > 1e-3
    jax.clear_caches()


@pytest.mark.wide
@pytest.mark.parametrize("name", ["scan", "simplex and ordered", "lanes and steps"])
def test_coordinates_and_values_are_each_others_inverse(name: str, key: jax.Array) -> None:
    model = MODELS[name]
    target = vt.condition(model.ours, **model.data)
    position = target.start(key)
    values = target.constrain(position)
    again = target.unconstrain(values)
    assert all(jnp.allclose(again[draw], position[draw], rtol=1e-9, atol=1e-9) for draw in target.names)
    assert jnp.allclose(target.log_prob(values), vt.density(model.ours)(values, **model.data), rtol=1e-12)


def test_the_change_of_volume_keeps_the_mass() -> None:
    # Over all of the line, the density of a prior in its coordinate integrates to one.
    for d in (dist.Exponential(2.0), dist.Beta(2.0, 3.0), dist.Uniform(-1.0, 4.0), dist.Normal(1.0, 2.0)):
        target = vt.condition(lambda key, d=d: vt.draw(key, d, name="x"))
        at = np.linspace(-40.0, 40.0, 80_001)
        mass = np.sum(np.exp(jax.vmap(lambda x, target=target: target.log_density({"x": x}))(at))) * 1e-3
        assert abs(mass - 1) < 1e-8


def test_names_supports_and_protocol() -> None:
    target = vt.condition(chain, MODELS["scan"].data["y"])
    assert isinstance(target, Target)
    assert target.names == ("scale", "slope", "x")
    supports = target.supports
    assert supports["scale"] == constraints.positive
    assert supports["x"] == constraints.real
    assert type(supports["slope"]).__name__ == "_Dependent"  # its edge is another draw


def test_other_data_compile_nothing_anew(key: jax.Array) -> None:
    compiled = []

    def model(key: jax.Array, y: jax.Array) -> None:
        compiled.append(y)  # as often as it is traced
        vt.observe(dist.Normal(vt.draw(key, dist.Normal(0.0, 1.0), name="mu"), 1.0), y)

    first, second = (vt.condition(model, y=y) for y in (jnp.zeros(3), jnp.ones(3)))
    step = jax.jit(lambda target, position: jax.grad(target.log_density)(position))
    position = first.start(key)
    slopes = [step(target, position)["mu"] for target in (first,)]
    before = len(compiled)
    slopes.append(step(second, position)["mu"])
    assert len(compiled) == before
    assert abs(slopes[1] - slopes[0] - 3) < 1e-12
    assert hash(jax.tree.structure(first)) == hash(jax.tree.structure(second))


def test_a_target_is_given_other_data() -> None:
    model, y = MODELS["scan"].ours, MODELS["scan"].data["y"]
    target = vt.condition(model, y)
    for other in (y + 1.0, y[:-1]):
        found, expected = target.given(other), vt.condition(model, other)
        assert found.latents == expected.latents
        position = {part.name: jnp.full(part.shape, 0.3, part.dtype) for part in expected.latents}
        assert found.log_density(position) == expected.log_density(position)
    assert target.given(y + 1.0).log_density(position := target.start(jax.random.key(0))) != target.log_density(
        position
    )


def test_a_start_has_positive_density_or_says_what_has_not(key: jax.Array) -> None:
    def narrow(key: jax.Array, top: jax.Array) -> None:
        x = vt.draw(key, dist.Normal(0.0, 1.0), name="x")
        vt.factor(jnp.where(x < top, 0.0, -jnp.inf), name="wall")

    k1, k2 = jax.random.split(key)
    assert vt.condition(narrow, -1.5).start(k1)["x"] < -1.5  # one start in eight
    with pytest.raises(ValueError, match=r"no start of positive density in 100 tries.*'wall' has -inf"):
        vt.condition(narrow, -3.0).start(k2)


class Strip(NamedTuple):
    """One's own distribution, which tells its edges."""

    width: Any

    @property
    def support(self) -> tuple:
        return 0.0, self.width

    def sample(self, key: jax.Array) -> jax.Array:
        return self.width * jax.random.uniform(key)

    def log_prob(self, x: jax.Array) -> jax.Array:
        return -jnp.log(self.width) + 0 * x


def test_ones_own_support_is_kept(key: jax.Array) -> None:
    target = vt.condition(lambda key, width: vt.draw(key, Strip(width), name="x"), 3.0)
    x = target.constrain(target.start(key))["x"]
    assert 0 < x < 3
    assert abs(target.log_density({"x": 0.0}) - jnp.log(1 / 4)) < 1e-12  # the slope of 3 s(u) at 0, over 3


class Untold(NamedTuple):
    """One's own distribution, which does not tell its support."""

    rate: Any

    def sample(self, key: jax.Array) -> jax.Array:
        return jax.random.exponential(key) / self.rate

    def log_prob(self, x: jax.Array) -> jax.Array:
        return -self.rate * x


def in_a_while_loop(key: jax.Array) -> None:
    def step(state: tuple) -> tuple:
        key, own = jax.random.split(state[0])
        return key, vt.draw(own, dist.Normal(0.0, 1.0), name="x")

    jax.lax.while_loop(lambda state: state[1] < 1, step, (key, jnp.zeros(())))


REFUSED = {
    "is discrete": lambda key: vt.draw(key, dist.Poisson(2.0), name="x"),
    "support that is not known": lambda key: vt.draw(key, Untold(2.0), name="x"),
    "has an atom": lambda key: vt.draw(key, dist.Delta(jnp.asarray(2.0)), name="x"),
    "inside a branch": lambda key: jax.lax.cond(
        jnp.asarray(True), lambda: vt.draw(key, dist.Normal(0.0, 1.0), name="x"), lambda: jnp.asarray(0.0)
    ),
    "inside a while_loop": in_a_while_loop,
}


@pytest.mark.parametrize("words", REFUSED)
def test_draws_without_coordinates_are_refused_by_name(words: str) -> None:
    with pytest.raises(TypeError, match=f"the draw 'x'.*{words}"):
        vt.condition(REFUSED[words])


def test_wrong_positions_and_values_are_named(key: jax.Array) -> None:
    target = vt.condition(schools, Y)
    position = target.start(key)
    with pytest.raises(ValueError, match=r"must have the names \['mu', 'tau', 'theta'\]"):
        target.log_density({"mu": 0.0})
    with pytest.raises(ValueError, match=r"'theta' must have shape \(8,\), got \(\)"):
        target.log_density({**position, "theta": jnp.asarray(0.0)})
    with pytest.raises(ValueError, match="'tau' must be inside the support"):
        target.unconstrain({**target.constrain(position), "tau": jnp.asarray(-1.0)})
