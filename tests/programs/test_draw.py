"""`draw` runs, stages and batches like sampling by hand, and refuses what it cannot be."""

from typing import Any, NamedTuple

import flowjax.distributions as flow
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
import pytest

import variate as vt


class Coin(NamedTuple):
    p: Any

    def sample(self, key: jax.Array) -> jax.Array:
        return jax.random.bernoulli(key, self.p)

    def log_prob(self, x: jax.Array) -> jax.Array:
        return jnp.where(x, jnp.log(self.p), jnp.log1p(-self.p))


DISTRIBUTIONS = {
    "normal": dist.Normal(1.0, 2.0),
    "a batch": dist.Gamma(jnp.array([1.0, 2.0]), 3.0),
    "event": dist.Dirichlet(jnp.ones(3)),
    "wrapped": dist.Bernoulli(logits=jnp.zeros(4)).to_event(1),
    "flowjax": flow.Normal(jnp.zeros(2), jnp.ones(2)),
    "one's own": Coin(jnp.asarray(0.3)),
}


@pytest.mark.wide
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_draw_is_a_sample_however_it_is_run(name: str) -> None:
    distribution, key = DISTRIBUTIONS[name], jax.random.key(7)

    def sample(key: jax.Array) -> jax.Array:
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            return distribution.sample(key)

    expected = sample(key)
    for run in (lambda f: f, jax.jit, jax.checkpoint):
        assert jnp.allclose(run(lambda k: vt.draw(k, distribution))(jax.random.clone(key)), expected, rtol=1e-13)
    keys = jax.random.split(jax.random.key(8), 3)
    lanes = jax.vmap(lambda k: vt.draw(k, distribution))(jax.random.clone(keys))
    assert jnp.allclose(lanes, jnp.stack([sample(k) for k in keys]), rtol=1e-13)


def test_lanes_nest_and_follow_their_parameters() -> None:
    keys = jax.random.split(jax.random.key(0), (2, 3))
    places = jnp.arange(3.0) * 100

    def draw(key: jax.Array, place: jax.Array) -> jax.Array:
        return vt.draw(key, dist.Normal(place, 1.0))

    nested = jax.vmap(jax.vmap(draw), in_axes=(0, None))(keys, places)
    flat = jax.random.split(jax.random.key(0), (2, 3)).reshape(6)
    one_by_one = [draw(key, places[i % 3]) for i, key in enumerate(flat)]
    assert jnp.array_equal(nested, jnp.stack(one_by_one).reshape(2, 3))


def test_a_draw_in_a_scan_stays_one_operation() -> None:
    def walk(key: jax.Array, n: int) -> jax.Array:
        def step(x: jax.Array, key: jax.Array) -> tuple[jax.Array, None]:
            return x + vt.draw(key, dist.Normal(0.0, 1.0)), None

        return jax.lax.scan(step, jnp.asarray(0.0), jax.random.split(key, n))[0]

    sizes = [len(str(jax.make_jaxpr(lambda k, n=n: walk(k, n))(jax.random.key(0)))) for n in (10, 99)]
    assert sizes[0] == sizes[1]


def test_two_draws_of_one_program_have_noise_of_their_own() -> None:
    def both(key: jax.Array) -> jax.Array:
        k1, k2 = jax.random.split(key)
        return vt.draw(k1, dist.Normal(0.0, 1.0)) - vt.draw(k2, dist.Normal(0.0, 1.0))

    assert both(jax.random.key(0)) != 0


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((jax.random.PRNGKey(0), dist.Normal(0.0, 1.0)), TypeError, r"raw uint32.*wrap_key_data"),
        ((jax.random.split(jax.random.key(0)), dist.Normal(0.0, 1.0)), ValueError, r"batch of shape \(2,\)"),
        ((0.5, dist.Normal(0.0, 1.0)), TypeError, "must be the key"),
        ((jax.random.key(0), 3.0), TypeError, r"sample\(key\) and log_prob\(x\)"),
        ((jax.random.key(0), dist.Normal), TypeError, "the class Normal itself"),
        ((jax.random.key(0), dist.Normal(0.0, -1.0, validate_args=False)), ValueError, "scale"),
        ((jax.random.key(0), dist.Normal(jnp.nan, 1.0, validate_args=False)), ValueError, "loc"),
        ((jax.random.key(0), dist.Bernoulli(jnp.array([0.5, 1.5]), validate_args=False)), ValueError, "probs"),
    ],
)
def test_bad_input_is_an_error_at_once(arguments: tuple, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        vt.draw(*arguments)


def test_a_name_has_to_be_a_string() -> None:
    with pytest.raises(TypeError, match="name must be a string, got 3"):
        vt.draw(jax.random.key(0), dist.Normal(0.0, 1.0), name=3)


def test_an_object_that_is_no_pytree_is_refused() -> None:
    class Opaque:
        def sample(self, key: jax.Array) -> jax.Array:
            return jax.random.normal(key)

        def log_prob(self, x: jax.Array) -> jax.Array:
            return -(x**2)

    with pytest.raises(TypeError, match="must be a pytree"):
        vt.draw(jax.random.key(0), Opaque())


def test_jax_grad_is_sent_to_vt_grad() -> None:
    def program(theta: jax.Array) -> jax.Array:
        return vt.draw(jax.random.key(0), dist.Normal(theta, 1.0), name="z")

    for derivative in (jax.grad(program), jax.jacfwd(program), jax.jit(jax.grad(program))):
        with pytest.raises(TypeError, match=r"draw 'z'.*vt\.grad"):
            derivative(0.3)
    # What does not pass the draw is none of its business.
    assert jax.grad(lambda t: t * vt.draw(jax.random.key(0), dist.Normal(1.0, 1.0)))(1.0) != 0


def test_what_cannot_be_drawn_from_is_named(key: jax.Array) -> None:
    with pytest.raises(TypeError, match="distribution must be one that can be drawn from, got ImproperUniform"):
        vt.draw(key, dist.ImproperUniform(dist.constraints.real, (), ()))
