"""A program that is to be differentiated: staged, split into terms, its rules chosen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from variate import checks, trees
from variate.estimates import Estimate
from variate.gradients import outcomes
from variate.gradients.base import Replay, Rule
from variate.gradients.choice import Choice, Chooser, by_site
from variate.gradients.credit import Credit, credits_of
from variate.gradients.plan import Plan, group
from variate.gradients.rules.baseline import Baseline, Learned, LeaveOneOut
from variate.gradients.rules.pathwise import Pathwise
from variate.gradients.rules.rebar import Control, Rebar
from variate.gradients.rules.relax import Relax
from variate.gradients.rules.relaxation import Relaxation
from variate.gradients.rules.score import Score
from variate.gradients.watching import check_watched, watched
from variate.programs.accumulation import accumulated
from variate.programs.calls import folded
from variate.programs.dataflow import ARGUMENT, Flow, bit
from variate.programs.integers import real_sums
from variate.programs.program import Operation, Program, every_operation
from variate.programs.recognition import Index
from variate.programs.relations import Relations, Tracing, element_shape
from variate.programs.relaxation import relaxed
from variate.programs.samplers import support
from variate.programs.simulation import log_prob_in
from variate.programs.staging import stage
from variate.programs.terms import Terms


class Request(NamedTuple):
    """What `value_and_grad` was asked for."""

    positions: tuple[int, ...]  # of the differentiated arguments, the key being 0; none for all that is real
    single: bool  # one position, not a sequence of one
    num_samples: int
    rules: tuple[tuple[str, Rule], ...]
    has_aux: bool
    stderr: bool
    allow_bias: bool
    block_size: int
    certified: bool  # the program is itself a gradient, which has looked at its own discontinuities
    order: int  # of the derivatives that will be taken in all


class Staged(NamedTuple):
    """A program as a list of operations, the shapes of what it returns, and whether an estimate in it is biased."""

    program: Program
    shape: Any
    biased: bool


def staged(static: trees.Static, key: Any, numbers: list[Any]) -> Staged:
    """Stage `f(key, *args)` as a program of the key and of the numbers in `(f, args)`."""

    def flat(key: Any, *numbers: Any) -> Any:
        f, args = trees.join(list(numbers), static)
        return jax.tree.map(value, f(key, *args), is_leaf=lambda x: isinstance(x, Estimate))

    def value(x: Any) -> Any:
        if not isinstance(x, Estimate):
            return x
        biased.append(x.biased)
        return x.value

    biased: list[bool] = []
    return Staged(*stage(flat, key, *numbers), any(biased))


@dataclass(frozen=True)
class Derivation:
    """A staged request with its rules: all that a block of samples needs."""

    request: Request
    plan: Plan
    choice: Choice
    arguments: Any  # the arguments, with the place of each number in its stead
    moved: tuple[int, ...]  # the places of the numbers that are differentiated
    result: Any  # the tree of what is differentiated, as shapes
    auxiliary: Any
    flows: list[Flow]
    shapes: dict[int, tuple[int, ...]]  # of the elements of the draws whose elements may be told apart
    relations: list[Relations] | None  # of every value to those draws
    direct: bool  # whether the result also depends on the arguments by a path that is not a score


def derive(request: Request, static: trees.Static, key: Any, numbers: list[Any]) -> Derivation:
    """Stage a request and choose its rules."""
    program, shape, biased = staged(static, key, numbers)
    program = real_sums(accumulated(program)) if request.order == 1 else program
    named = by_site(program, dict(request.rules))
    program = relaxed(program, _supports(program, named))
    f, arguments = trees.join(list(range(len(numbers))), static)
    result, auxiliary = checks.check_pair(f, shape) if request.has_aux else (shape, ())
    checks.check_differentiable_result(f, result)
    places = (i for p in request.positions for i in jax.tree.leaves(arguments[p - 1]) if is_place(i))
    moved = tuple(places) if request.positions else tuple(range(len(numbers)))
    real = [jnp.issubdtype(jnp.result_type(number), jnp.floating) for number in numbers]
    inputs = [False, *(i in moved and real[i] for i in range(len(numbers)))]
    outputs = len(jax.tree.leaves(result))
    chooser = Chooser(program, outputs, inputs, named, request.allow_bias, request.order)
    choice = chooser.choose(request.certified)
    choice.inherited = biased
    flows = chooser.analysis.environment
    scored = sum(bit(i) for i, rule in choice.rules.items() if isinstance(rule, Score | Replay | Control))
    pathwise = sum(bit(i) for i, rule in choice.rules.items() if isinstance(rule, Pathwise))
    shapes = _shapes(chooser.analysis.draws, choice.rules) if request.order == 1 else {}
    relations = Tracing(program, shapes).environment if shapes else None
    terms = [Terms(program, output, flows, scored, relations) for output in program.outputs[:outputs]]
    credits = credits_of(shapes, terms)
    _check_functions(choice.rules, trees.join(numbers, static)[1])
    rules = _with_baselines(choice.rules, min(request.block_size, request.num_samples))
    check_watched(program, rules)
    direct = any(flow.tangent & (ARGUMENT | pathwise) for flow in chooser.outputs)
    computed = _computed(program, rules, credits)
    compact = folded(program, set(computed.values()).union(*(each.places() for each in terms)))
    names = {name: -1 - n for n, name in enumerate(dict.fromkeys(chain.from_iterable(watched(rules).values())))}
    groups = group(rules, terms, credits)

    def called_with(numbers: Sequence[Any]) -> Any:
        return trees.join(list(numbers), static)[1]

    given = outcomes.places(choice.marginalized)
    plan = Plan(compact, outputs, rules, terms, groups, request.order, computed, credits, names, given, called_with)
    return Derivation(request, plan, choice, arguments, moved, result, auxiliary, flows, shapes, relations, direct)


def _supports(program: Program, named: Mapping[int, Rule]) -> dict[int, Any]:
    """The values of those draws that are relaxed."""
    draws = [
        op for op in every_operation(program) if op.site and isinstance(named.get(op.site.index), Relaxation | Rebar)
    ]
    supports = {draw.site.index: support(draw) for draw in draws if draw.site}
    return {i: values for i, values in supports.items() if values is not None}


def _shapes(draws: Mapping[int, Operation], rules: Mapping[int, Rule | None]) -> dict[int, tuple[int, ...]]:
    """The shapes of the elements of scored draws of more than one element: scans, lanes, batch."""
    found = {}
    for i, draw in draws.items():
        loops = draw.site.repeats if draw.site else []
        if type(rules[i]) is Score and all(loop.length is not None for loop in loops):
            own = element_shape(draw)
            if own is not None and (loops or own):
                found[i] = (*(loop.length for loop in loops), *own)
    return found


def _computed(program: Program, rules: Mapping[int, Rule | None], credits: Mapping[int, Credit]) -> dict[int, int]:
    """Where the program itself computes the log probability of a draw that is scored, as a variational bound does."""
    scored = {op.site.index: op for op in program.operations if op.site and type(rules[op.site.index]) is Score}
    if not scored:
        return {}
    index = Index(program)
    places = {i: log_prob_in(index, draw, by_element=i in credits) for i, draw in scored.items()}
    return {i: place for i, place in places.items() if place is not None}


def is_place(leaf: Any) -> bool:
    """Whether a leaf of `Derivation.arguments` stands for a number."""
    return isinstance(leaf, int) and not isinstance(leaf, bool)


def _check_functions(rules: Mapping[int, Rule | None], args: tuple[Any, ...]) -> None:
    """Raise where a user's function in a rule does not take what it will be given."""
    arguments = "the arguments of the program (the key left out)"
    for rule in rules.values():
        baseline = rule.baseline if isinstance(rule, Score) else None
        if isinstance(rule, Relax):
            checks.check_takes("control", rule.control, (None, *args), f"z and {arguments}")
        elif isinstance(baseline, Learned):
            given = (*(None for _ in baseline.names), *args)
            checks.check_takes("function", baseline.function, given, f"the named values and {arguments}")
        elif callable(baseline):
            checks.check_takes("baseline", baseline, args, arguments)


def _with_baselines(rules: Mapping[int, Rule | None], samples: int) -> dict[int, Rule | None]:
    """The rules, with leave-one-out where a score was given no baseline and there are others to leave one out of."""
    filled: dict[int, Rule | None] = {}
    for i, rule in rules.items():
        if isinstance(rule, Score):
            least = rule.baseline.least if isinstance(rule.baseline, Baseline) else 1
            if samples < least:
                name = type(rule.baseline).__name__
                raise ValueError(
                    f"num_samples: the baseline {name} needs {least} samples or more in a block, got {samples}"
                )
            if rule.baseline is None and samples > 1:
                rule = replace(rule, baseline=LeaveOneOut())
        filled[i] = rule
    return filled
