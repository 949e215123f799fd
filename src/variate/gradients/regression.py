"""What a learned baseline is to minimise: the squared distance to the costs that it stands for."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from variate import checks, trees
from variate.gradients.base import Rule
from variate.gradients.rules.baseline import Learned
from variate.gradients.rules.score import Score
from variate.gradients.samples import run_of
from variate.gradients.staged import derive
from variate.gradients.transform import value_and_grad
from variate.programs.generator import run_keys


def baseline_loss(
    f: Callable[..., Any],
    argnums: int | Sequence[int] = 1,
    *,
    rules: Mapping[str, Rule],
    num_samples: int = 16,
) -> Callable[..., Float[Array, ""]]:
    r"""The loss $E \sum_i (c_i - b_\phi(y_i, \cdot))^2$ of the baselines $b_\phi$ that `rules` names by `Learned`.

    $c_i$ is what the element $i$ of a draw is charged with by `vt.grad(f, argnums, rules=rules)`, in a loop the cost
    from that step on, and $y_i$ are the named values that its baseline looks at; both are held fixed. The minimiser is
    $b(y) = E[c \mid y]$, the expected cost given what is known before the draw: the mean square of what the score then
    weighs is the least that any function of $y$ leaves. (That is the least variance of the gradient where the size of
    the score does not vary with the cost; `Optimal` weighs by it.) A draw that the baseline has seen is refused.

    Args:
        f: the program, as for `vt.grad`.
        argnums: the arguments that the gradient of `f` will be taken in. $\phi$ is an argument of `f` too, and need
            not be one of them.
        rules: by the names of draws, `Score(Learned(...))` for one or more.
        num_samples: how many runs.

    Returns:
        A function of `(key, *args)`: the mean loss over runs with these arguments. Its derivative in $\phi$, by
        `jax.grad`, is what an optimizer step takes; in all else it is zero.

    Raises:
        ValueError: no draw that contributes has a learned baseline; what `vt.grad` raises otherwise.

    Source: Mnih and Gregor (2014), eq. 7.
    """
    gradient = value_and_grad(f, argnums, num_samples=num_samples, rules=rules, stderr=False, block_size=num_samples)

    def loss(key: Any, *args: Any) -> Float[Array, ""]:
        gradient.check(key, args)
        numbers, static = trees.split((gradient.f, args))
        checks.check_hashable(static.leaves)
        fixed = lax.stop_gradient(numbers)
        derivation = derive(gradient.request, static, key, fixed)
        once = run_of(derivation, fixed)
        moved = [fixed[i] for i in derivation.moved]
        keys = run_keys(key, jnp.arange(num_samples))
        runs, _ = jax.vmap(once, (0, None))(keys, moved)
        losses = []
        for group, charges, seen in zip(derivation.plan.groups, runs.charges, runs.seen, strict=True):
            kind = group.rule.baseline if isinstance(group.rule, Score) else None
            if isinstance(kind, Learned):
                pairs = lax.stop_gradient(list(zip(charges, seen, strict=True)))
                losses += [jnp.sum((cost - kind.values(cost, features, args)) ** 2) for cost, features in pairs]
        if not losses:
            raise ValueError(
                "rules: no draw that contributes to the gradient has a learned baseline, Score(Learned(...))"
            )
        return jnp.sum(jnp.stack(losses)) / num_samples

    return loss
