"""A function that reads something else than before is another to every cache, without being traced to find out."""

import pickle
import types
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import variate as vt
from variate.closures import closed_over
from variate.diffusion import DataPrediction, DPMSolverPP, VariancePreserving, uniform_log_snr
from variate.estimates import Antithetic, quantile

SHIFT = jnp.asarray(1.0)
NAMED = {"shift": 1.0}
ARRAY = np.ones(3)


def helper() -> Any:
    return SHIFT


def program(key: jax.Array) -> jax.Array:
    return helper() + 0 * vt.draw(key, dist.Normal(0.0, 1.0))


def gated(key: jax.Array, p: float) -> jax.Array:
    return SHIFT * jnp.asarray(vt.draw(key, dist.Bernoulli(probs=p)), float)


def denoiser(x: jax.Array, t: Any) -> jax.Array:
    return helper() + 0 * x


class Model:
    shift = 1.0

    def run(self, key: jax.Array) -> jax.Array:
        return jnp.asarray(self.shift) + 0 * vt.draw(key, dist.Normal(0.0, 1.0))


PROCESS = VariancePreserving()
MODEL = DataPrediction(PROCESS, denoiser)
CALLS: dict[str, Callable[[jax.Array], Any]] = {
    "expect": lambda key: vt.expect(program, num_samples=64)(key).value,
    "a design": lambda key: vt.expect(program, method=Antithetic(), num_samples=64)(key).value,
    "until": lambda key: vt.expect(program, until=vt.StdErr(1.0))(key).value,
    "quantile": lambda key: quantile(program, 0.5, num_samples=64)(key).value,
    "value_and_grad": lambda key: 2 * vt.value_and_grad(gated, num_samples=4096)(key, 0.5)[0].value,
    "grad": lambda key: vt.grad(gated, num_samples=4096)(key, 0.5).value,
    "diffusion": lambda key: vt.diffusion.sample(
        key, MODEL, DPMSolverPP(), uniform_log_snr(PROCESS, 4), (256, 1)
    ).values.mean(),
}


@pytest.mark.wide
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_global_that_is_bound_again_is_read_again(
    call: Callable[[jax.Array], Any], key: jax.Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From 1 to 10, beside which there is no chance, or that of 4,096 coins."""
    first, second = jax.random.split(key)
    assert abs(float(call(first)) - 1.0) < 0.5
    monkeypatch.setitem(globals(), "SHIFT", jnp.asarray(10.0))
    assert abs(float(call(second)) - 10.0) < 5.0


def test_attributes_of_the_object_of_a_method_are_read_again(key: jax.Array) -> None:
    model = Model()
    first, second = jax.random.split(key)
    assert float(vt.expect(model.run, num_samples=64)(first).value) == 1.0
    model.shift = 2.0
    assert float(vt.expect(model.run, num_samples=64)(second).value) == 2.0


class Called:
    """A network that is no pytree."""

    def __init__(self) -> None:
        self.shift, self.weights, self.itself = 1.0, np.ones(1), self

    def __call__(self, x: jax.Array, t: Any) -> jax.Array:
        return jnp.asarray(self.shift * self.weights) + 0 * x


@pytest.mark.parametrize("within", [lambda network: network, lambda network: lambda x, t: network(x, t)])
def test_attributes_of_what_is_called_are_read_again(within: Any, key: jax.Array) -> None:
    network, times = Called(), uniform_log_snr(PROCESS, 2)

    def drawn() -> float:
        model = DataPrediction(PROCESS, within(network))
        return float(vt.diffusion.sample(jax.random.clone(key), model, DPMSolverPP(1), times, (64, 1)).values.mean())

    before = drawn()
    assert drawn() == before
    network.shift = 2.0
    after = drawn()
    assert after > before + 0.5
    network.weights[0] = 2.0
    assert drawn() > after + 1.0


def test_functions_of_libraries_that_are_objects_are_followed_no_further() -> None:
    """As JAX's with derivatives of their own are: their attributes are functions that read thousands of names."""
    relu = jax.nn.relu
    assert closed_over((relu,)) is closed_over((relu,))


def reading() -> Any:
    return NAMED["shift"], ARRAY.sum()


def nested() -> Callable[[], Any]:
    return lambda: SHIFT


def changes() -> dict[str, tuple[Callable[..., Any], Callable[[pytest.MonkeyPatch], None]]]:
    held = 1.0

    def inner() -> Any:
        return held

    def bind(_: pytest.MonkeyPatch) -> None:
        nonlocal held
        held = 2.0

    def of_array(patch: pytest.MonkeyPatch) -> None:
        patch.setitem(globals(), "ARRAY", np.ones(3))
        ARRAY[1] = 2.0

    return {
        "a dictionary": (reading, lambda patch: patch.setitem(NAMED, "shift", 2.0)),
        "numbers of an array": (reading, of_array),
        "a function inside": (nested, lambda patch: patch.setitem(globals(), "SHIFT", jnp.asarray(1.0))),
        "a cell": (inner, bind),
        "a function that is called": (program, lambda patch: patch.setitem(globals(), "helper", lambda: 3.0)),
    }


@pytest.mark.parametrize("name", changes())
def test_what_is_read_is_known(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    function, change = changes()[name]
    before = closed_over((function,))
    assert closed_over((function,)) is before
    change(monkeypatch)
    assert closed_over((function,)) is not before


def test_in_another_process_it_is_one_object() -> None:
    sent = pickle.dumps(closed_over((program,)))
    assert pickle.loads(sent) is pickle.loads(sent)


def test_what_is_not_read_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before = closed_over((reading, 3.0, types))
    monkeypatch.setitem(globals(), "SHIFT", jnp.asarray(5.0))
    assert closed_over((reading, 3.0, types)) is before


def test_a_record_that_a_function_keeps_is_not_what_it_does() -> None:
    calls: list[int] = []

    def function() -> None:
        calls.append(1)

    before = closed_over((function,))
    function()
    assert closed_over((function,)) is before


def test_a_dictionary_without_an_order_is_known_by_itself() -> None:
    mixed = {1: jnp.ones(2), "one": 2.0}

    def function() -> Any:
        return mixed[1]

    assert closed_over((function,)) is closed_over((function,))


def test_functions_that_call_each_other_are_followed_once() -> None:
    def even(n: int) -> bool:
        return n == 0 or odd(n - 1)

    def odd(n: int) -> bool:
        return n != 0 and even(n - 1)

    assert closed_over((even,)) is closed_over((even,))
