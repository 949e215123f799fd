"""Elements of discrete draws that are summed out alone: as the sum over all assignments, where there are few."""

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
import pytest
from programs.assignments import Case, Cost, anew, check_sum, cost

import variate as vt
from variate.programs import plates
from variate.programs.densities import Call
from variate.programs.summable import summed_draws

Y = jnp.array([0.3, 1.2, -2.0])
MEAN = jnp.array([-1.0, 0.3, 2.0])
SHARE = jnp.array([0.2, 0.5, 0.3])
TABLE = jnp.array([[0.8, 0.2], [0.1, 0.9], [0.5, 0.5]])


def mixture(key: jax.Array, y: jax.Array) -> None:
    k1, k2, k3 = jax.random.split(key, 3)
    share = vt.draw(k1, dist.Dirichlet(jnp.ones(3)), name="share")
    mean = vt.draw(k2, dist.Normal(0.0, 2.0).expand([3]), name="mean")
    z = vt.draw(k3, dist.Categorical(share).expand([len(y)]), name="z")
    vt.observe(dist.Normal(mean[z], 1.0), y)


def lanes(key: jax.Array, y: jax.Array) -> None:
    """Under vmap, with a second label for each element, and a label of all that both depend on."""
    k1, k2, k3 = jax.random.split(key, 3)
    mean = vt.draw(k1, dist.Normal(0.0, 2.0), name="mean")
    world = vt.draw(k2, dist.Bernoulli(0.3), name="world")

    def one(key: jax.Array, y: jax.Array) -> jax.Array:
        k1, k2 = jax.random.split(key)
        z = vt.draw(k1, dist.Categorical(jnp.where(world == 1, SHARE, SHARE[::-1])), name="z")
        w = vt.draw(k2, dist.Bernoulli(TABLE[z, 1]), name="w")
        vt.observe(dist.Normal(MEAN[z] + mean, jnp.where(w == 1, 1.0, 3.0)), y)
        return z

    z = jax.vmap(one)(jax.random.split(k3, len(y)), y)
    vt.factor(jnp.where(z == 1, -0.3, world.astype(float)))


def nested(key: jax.Array, y: jax.Array) -> None:
    """Groups with labels, members with labels that depend on them, and an effect between that is continuous."""
    k1, k2, k3 = jax.random.split(key, 3)
    z = vt.draw(k1, dist.Bernoulli(0.4).expand([2]).to_event(1), name="z")
    w = vt.draw(k2, dist.Bernoulli(jnp.broadcast_to(TABLE[z, 1], (2, 2)).T), name="w")
    effect = vt.draw(k3, dist.Normal(z.astype(float), 1.0), name="effect")
    seen = jnp.stack([y[:2], y[1:], -y[:2]])
    vt.observe(dist.Normal(MEAN[w] + effect[:, None], 1.0), seen[:, :, None] + seen[:, None, :])


def rows(key: jax.Array, y: jax.Array) -> None:
    """Elements that are together in a row, and rows that are alone."""
    k1, k2 = jax.random.split(key)
    z = vt.draw(k1, dist.Bernoulli(jnp.linspace(0.2, 0.7, 6).reshape(3, 2)), name="z")
    scale = vt.draw(k2, dist.HalfNormal(1.0), name="scale")
    vt.observe(dist.Normal(jnp.sum(z, axis=1).astype(float), scale), y)


def looped(key: jax.Array, y: jax.Array) -> None:
    """Labels that a scan goes along, whose draws are continuous."""
    k1, k2 = jax.random.split(key)
    z = vt.draw(k1, dist.Bernoulli(0.4).expand([3]), name="z")

    def step(_: None, x: tuple) -> tuple:
        level = vt.draw(x[0], dist.Normal(MEAN[x[1]], 1.0), name="level")
        vt.observe(dist.Normal(level, 1.0 + x[1].astype(float)), x[2])
        return None, None

    jax.lax.scan(step, None, (jax.random.split(k2, 3), z, y))


def neighbours(key: jax.Array, y: jax.Array) -> None:
    """A ring of spins: no element is alone."""
    k1, k2 = jax.random.split(key)
    z = vt.draw(k1, dist.Bernoulli(0.4).expand([3]), name="z")
    field = vt.draw(k2, dist.Normal(0.0, 1.0), name="field")
    vt.factor(field * (z * jnp.roll(z, 1)).astype(float))
    vt.observe(dist.Normal(z.astype(float), 1.0), y)


def crossed(key: jax.Array, y: jax.Array) -> None:
    """Two labels that are linked element by element, and backwards too: not both can be alone."""
    k1, k2, k3 = jax.random.split(key, 3)
    z = vt.draw(k1, dist.Bernoulli(0.4).expand([3]), name="z")
    w = vt.draw(k2, dist.Bernoulli(TABLE[z, 1]), name="w")
    mean = vt.draw(k3, dist.Normal(0.0, 1.0), name="mean")
    vt.observe(dist.Normal(mean + MEAN[z][:, None] * MEAN[w][None], 1.0), jnp.broadcast_to(y, (3, 3)))


MODELS: dict[str, Case] = {
    "mixture": Case(mixture, {"z": (3, (3,))}, {"share": jnp.array([0.2, 0.5, 0.3]), "mean": MEAN}),
    "lanes": Case(lanes, {"world": (2, ()), "z": (3, (3,)), "w": (2, (3,))}, {"mean": jnp.asarray(0.4)}),
    "nested": Case(nested, {"z": (2, (2,)), "w": (2, (2, 2))}, {"effect": jnp.array([0.4, -1.0])}),
    "rows": Case(rows, {"z": (2, (3, 2))}, {"scale": jnp.asarray(0.7)}),
    "looped": Case(looped, {"z": (2, (3,))}, {"level": jnp.array([0.4, -1.0, 0.2])}),
    "neighbours": Case(neighbours, {"z": (2, (3,))}, {"field": jnp.asarray(0.7)}),
    "crossed": Case(crossed, {"z": (2, (3,)), "w": (2, (3,))}, {"mean": jnp.asarray(0.7)}),
}
ALONE = {"mixture": 3, "lanes": 3, "nested": 2, "rows": 4, "looped": 2, "neighbours": 8, "crossed": 8}  # values at once


@pytest.mark.wide
@pytest.mark.parametrize("name", MODELS)
def test_it_is_the_sum_over_all_assignments(name: str) -> None:
    check_sum(MODELS[name], Y)
    call = Call.of(MODELS[name].model, (Y,), {})
    draws, _ = summed_draws(call.program(), call.numbers)
    assert max(len(draw.values) for draw in draws.values() if draw.values is not None) == ALONE[name]


def test_elements_that_are_wrongly_taken_for_alone_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plates, "_linked", lambda shape, relation, elements: {0: 0})
    with pytest.raises(AssertionError):
        check_sum(anew(MODELS["neighbours"]), Y)


def test_many_elements_cost_each_its_values() -> None:
    """Of 200 elements the density has as many equations as of 3, and its largest array grows by no more than them."""

    def of(count: int) -> Cost:
        target = vt.condition(mixture, jnp.linspace(-2.0, 2.0, count))
        position = {part.name: jnp.full(part.shape, 0.3) for part in target.latents}
        return cost(jax.make_jaxpr(target.log_density)(position).jaxpr)

    few, many = of(3), of(200)
    assert few.equations == many.equations
    assert many.largest <= few.largest * 200 / 3


def test_what_keeps_elements_together_is_named() -> None:
    def spins(key: jax.Array, y: jax.Array) -> None:
        z = vt.draw(key, dist.Bernoulli(0.4).expand([len(y)]), name="z")
        vt.observe(dist.Normal(z.astype(float), 1.0), y)
        vt.factor(jnp.sum(z[1:] * z[:-1]).astype(float), name="pairs")

    with pytest.raises(TypeError, match=r"'z' .* of 20 elements, together too many, for the factor 'pairs' .*array"):
        vt.condition(spins, jnp.zeros(20))
