"""Bad input to `vt.implicit` and what it is made of gets an error at once, in the user's words."""

import inspect
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest
from jax import Array

import variate as vt
from variate.gradients import fixed_point, linear_solves, projected_gradient, proximal_gradient, stationary

# As it is called where no type checker speaks first.
unchecked = inspect.unwrap(vt.implicit)


def bad(call: Callable[[], Any], match: str) -> None:
    with pytest.raises(TypeError, match=match):
        call()


def halving(t: Any) -> Any:
    return t / 2


def test_what_is_no_function() -> None:
    bad(lambda: unchecked(3), r"conditions must be a function of \(x, \*args\), got 3")
    bad(lambda: unchecked(halving, solve="dense"), r"solve must be a function of \(matvec, b\).*got 'dense'")
    bad(lambda: unchecked(halving, solve=linear_solves.GMRES), "solve must .*got the class GMRES itself")
    bad(lambda: unchecked(halving, within="near"), "within must be a positive number, got 'near'")
    bad(lambda: inspect.unwrap(unchecked(halving))(jnp.ones(2)), r"solver must be .*@vt\.implicit.*got float64\[2\]")


CONDITIONS: dict[str, tuple[Callable[..., Any], str]] = {
    "another shape": (lambda x, t: x[:2], r"conditions <lambda> .*like x: x is float64\[3\], got float64\[2\]"),
    "another type": (lambda x, t: x.astype(jnp.float32), r"x is float64\[3\], got float32\[3\]"),
    "another structure": (
        lambda x, t: (x, x),
        r"structure of x, which is PyTreeDef\(\*\), got PyTreeDef\(\(\*, \*\)\)",
    ),
    "a number": (lambda x, t: jnp.sum(x), r"x is float64\[3\], got float64\[\]"),
    "integers": (lambda x, t: x.astype(int), r"must return a pytree of real arrays, got int64\[3\]"),
    "too few arguments": (lambda x: x, r"cannot be called with \(x, float64\[3\]\): too many.*then the arguments of"),
    "too many arguments": (lambda x, t, u: x, r"cannot be called with \(x, float64\[3\]\): missing.*'u'"),
}


@pytest.mark.parametrize("name", CONDITIONS)
def test_conditions_that_do_not_fit(name: str) -> None:
    conditions, match = CONDITIONS[name]
    bad(lambda: vt.implicit(conditions)(halving)(jnp.ones(3)), match)


def test_conditions_that_do_not_fit_a_tree() -> None:
    def conditions(x: dict, t: Array) -> dict:
        return {"a": x["a"], "b": x["b"][None]}

    bad(lambda: vt.implicit(conditions)(lambda t: {"a": t, "b": t})(jnp.ones(3)), r"x\['b'\] is float64\[3\], got.*1,3")
    bad(lambda: vt.implicit(fixed_point(lambda x, t: (x,)))(halving)(jnp.ones(3)), "structure of x")


SOLUTIONS: dict[str, tuple[Any, str]] = {
    "integers": (jnp.arange(3), r"the solver <lambda> must return a pytree of real arrays, got int64\[3\]"),
    "complex numbers": (jnp.ones(3, complex), "got complex128"),
    "a flag": (True, "got True"),
    "words": ({"x": jnp.ones(2), "how": "converged"}, r"got 'converged' at x\['how'\]"),
    "nothing": (None, "got None"),
}


@pytest.mark.parametrize("name", SOLUTIONS)
def test_solutions_that_are_not_real(name: str) -> None:
    solution, match = SOLUTIONS[name]
    bad(lambda: vt.implicit(lambda x, t: x)(lambda t: solution)(jnp.ones(3)), match)


def test_conditions_made_of_what_is_no_function() -> None:
    bare = {f.__name__: inspect.unwrap(f) for f in (stationary, fixed_point, projected_gradient, proximal_gradient)}
    bad(lambda: bare["stationary"](1.0), "objective must be a function")
    bad(lambda: bare["fixed_point"](1.0), "update must be a function")
    bad(lambda: bare["projected_gradient"](halving, 1.0), "projection must be a function of a point")
    bad(lambda: bare["proximal_gradient"](halving, None), "prox must be a function of a point")
    bad(lambda: bare["proximal_gradient"](halving, halving, 0.1), "parameters must be a function of the solver's")
    conditions = bare["proximal_gradient"](jnp.sum, halving, lambda: 0.1)
    bad(lambda: conditions(jnp.ones(2)), r"parameters must return a tuple, got 0\.1")


@pytest.mark.parametrize("kind", [linear_solves.GMRES, linear_solves.ConjugateGradient, linear_solves.BySize])
def test_options_of_linear_solves(kind: Any) -> None:
    options = {"tol": (0.0, 1.0, "fine"), "restart": (0, 1.5), "max_restarts": (-1,), "max_steps": (0,), "limit": (0,),
               "small": ("dense", linear_solves.Dense)}  # fmt: skip
    for name, values in options.items():
        for value in values if name in inspect.signature(kind).parameters else ():
            with pytest.raises((ValueError, TypeError), match=name):
                kind(**{name: value})


def test_arguments_may_be_anything() -> None:
    class Model(eqx.Module):
        weight: Array
        activation: Callable[[Array], Array]
        name: str = eqx.field(default="tanh")

    @vt.implicit(fixed_point(lambda x, model, options: model.activation(model.weight + x / 2)), unique=True)
    def solver(model: Model, options: dict[str, Any]) -> Array:
        return jax.lax.fori_loop(
            0, options["steps"], lambda _, x: model.activation(model.weight + x / 2), jnp.zeros(())
        )

    model, options = Model(jnp.array(0.3), jnp.tanh), {"steps": 90, "how": print, "nothing": None, "flag": True}
    slope = 1 - solver(model, options) ** 2
    found = eqx.filter_grad(lambda model: solver(model, options))(model)
    assert abs(found.weight - slope / (1 - slope / 2)) < 1e-12
