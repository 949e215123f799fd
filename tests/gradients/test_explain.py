"""`explain` says what `grad` does."""

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
import pytest

import variate as vt


def program(key: jax.Array, t: jax.Array) -> jax.Array:
    k1, k2, k3, k4 = jax.random.split(key, 4)
    z = vt.draw(k1, dist.Normal(t, 1.0), name="z")
    n = vt.draw(k2, dist.Poisson(jnp.exp(t)), name="n").astype(float)
    b = vt.draw(k3, dist.Bernoulli(logits=t), name="b").astype(float)
    noise = vt.draw(k4, dist.Normal(0.0, 1.0), name="noise")
    return z**2 + 3 * n + b * z + jnp.where(noise > 0, 1e-3, 0.0)


def test_each_draw_has_its_row() -> None:
    found = vt.explain(program)(jax.random.key(0), 0.3)
    rows = {row.draw.split(" ")[0]: row for row in found.rows}
    assert {name: row.rule.split("(")[0] for name, row in rows.items()} == {
        "z": "Pathwise",
        "n": "Score",
        "b": "Enumerate",
        "noise": "none needed",
    }
    assert not found.biased
    assert rows["n"].reaches == "1 of 4 terms"
    assert rows["z"].reaches == "2 of 4 terms"
    assert rows["noise"].share < 1e-3 < rows["b"].share < rows["n"].share <= 1
    assert "test_explain.py:" in rows["z"].draw


def test_it_prints_as_text_and_as_html() -> None:
    found = vt.explain(program)(jax.random.key(0), 0.3)
    assert "unbiased" in str(found)
    for row in found.rows:
        assert row.draw.split(" ")[0] in str(found)
        assert f"<td>{row.rule}</td>" in found._repr_html_()


def test_a_biased_rule_is_shown_with_its_reason() -> None:
    def jump(key: jax.Array, t: jax.Array) -> jax.Array:
        return jnp.where(vt.draw(key, dist.Normal(t, 1.0), name="z") > 0, 1.0, 0.0)

    found = vt.explain(jump, rules={"z": vt.gradients.Pathwise()})(jax.random.key(0), 0.3)
    assert found.biased
    assert found.rows[0].biased
    assert "`gt`" in found.rows[0].why
    assert "the gradient is biased" in str(found)


def test_an_argument_that_meets_a_discontinuity_is_said_in_the_caption() -> None:
    def jump(key: jax.Array, t: jax.Array) -> jax.Array:
        return jnp.where(vt.draw(key, dist.Normal(0.0, 1.0)) > t, 1.0, 0.0)

    found = vt.explain(jump)(jax.random.key(0), 0.3)
    assert found.biased
    assert "a differentiated argument meets random values" in str(found)


def test_many_draws_have_no_shares() -> None:
    def many(key: jax.Array, t: jax.Array) -> jax.Array:
        return sum(vt.draw(k, dist.Normal(t, 1.0)) for k in jax.random.split(key, 20))

    assert all(row.share is None for row in vt.explain(many)(jax.random.key(0), 0.3).rows)


def test_a_call_without_its_key_is_refused() -> None:
    with pytest.raises(TypeError, match="must be the key"):
        vt.explain(program)(0.3)
