"""The rule of every draw of a program: as the user named it, else the best that is legal and affordable."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from variate.gradients.base import BiasedGradientError, Facts, Replay, Rule
from variate.gradients.outcomes import check_outcomes
from variate.gradients.rules.acceptance_rejection import AcceptanceRejection
from variate.gradients.rules.coupled import Coupled
from variate.gradients.rules.covariance import Covariance
from variate.gradients.rules.disarm import DisARM
from variate.gradients.rules.enumerate import Enumerate
from variate.gradients.rules.implicit_reparameterization import ImplicitReparameterization
from variate.gradients.rules.marginalize import Marginalize
from variate.gradients.rules.measure_valued import MeasureValued
from variate.gradients.rules.pathwise import Pathwise
from variate.gradients.rules.rebar import Control, Rebar
from variate.gradients.rules.relaxation import Relaxation
from variate.gradients.rules.score import Score
from variate.programs import keys, samplers
from variate.programs.dataflow import ARGUMENT, Analysis, Break, Flow, bit
from variate.programs.program import Operation, Program, Site, every_operation

# Enumeration is chosen unasked up to this many replays of the program, over all its draws.
AFFORDABLE = 8

# What an error offers in place of a rule that cannot serve a draw.
RULES: tuple[Rule, ...] = (
    Pathwise(),
    Enumerate(),
    Coupled(),
    MeasureValued(),
    Score(),
    ImplicitReparameterization(),
    AcceptanceRejection(),
    DisARM(),
    Rebar(),
    Covariance(),
    Marginalize(),
)


@dataclass
class Choice:
    """What was chosen, and why, by the index of the draw; a rule None is a draw that needs none."""

    rules: dict[int, Rule | None] = field(default_factory=dict)
    reasons: dict[int, str] = field(default_factory=dict)
    biases: dict[int, str] = field(default_factory=dict)
    legal: dict[int, list[Rule]] = field(default_factory=dict)  # of the draws that need a rule: all that serve
    marginalized: dict[int, Facts] = field(default_factory=dict)  # draws whose joint outcomes are gone through
    bias: str | None = None  # of the whole gradient, where an argument meets a discontinuity

    inherited: bool = False  # an estimate that the program differentiates is biased

    @property
    def biased(self) -> bool:
        return bool(self.biases) or self.bias is not None or self.inherited

    @property
    def value_biased(self) -> bool:
        """Whether the runs themselves are not those of the program."""
        return self.inherited or any(isinstance(rule, Relaxation) and rule.soft for rule in self.rules.values())


def by_site(program: Program, named: Mapping[str, Rule]) -> dict[int, Rule]:
    """The rules that a user gave, by the index of the draw: those by name come before those given to `draw`."""
    sites = {site.index: site for site in program.sites}
    labels: dict[str, int] = {}
    for i, site in sorted(sites.items()):
        if site.name is not None and labels.setdefault(site.name, i) != i:
            other = sites[labels[site.name]].source
            raise ValueError(f"name: two draws are called {site.name!r}, at {other} and at {site.source}")
    unknown = [name for name in named if name not in labels]
    if unknown:
        raise ValueError(f"rules: no draw is called {unknown[0]!r}; the named draws are {sorted(labels) or 'none'}")
    given = {i: site.rule for i, site in sites.items() if site.rule is not None}
    return {**given, **{labels[name]: rule for name, rule in named.items()}}


class Chooser:
    """Chooses the rules of one program.

    Args:
        program: the staged program.
        outputs: how many of its outputs are differentiated; the rest is auxiliary.
        inputs: which of its inputs are differentiated.
        named: the user's rules, by the index of the draw.
        allow_bias: take a named rule although its gradient is biased.
        order: the order of the derivatives that will be taken.
    """

    def __init__(
        self,
        program: Program,
        outputs: int,
        inputs: Sequence[bool],
        named: Mapping[int, Rule],
        allow_bias: bool,
        order: int = 1,
    ):
        self.program, self.allow_bias, self.order = program, allow_bias, order
        flows = [Flow(tangent=ARGUMENT) if moved else Flow() for moved in inputs]
        relaxed = frozenset(i for i, rule in named.items() if isinstance(rule, Relaxation | Rebar))
        self.analysis = Analysis(program, flows, order, relaxed)
        self.outputs = self.analysis.outputs[:outputs]
        self.named = named
        self.natures = {i: samplers.nature(draw, order) for i, draw in self.analysis.draws.items()}
        self.shared_keys = keys.shared_keys(program)
        self.choice = Choice()

    def choose(self, certified: bool = False) -> Choice:
        """The choice; a `certified` program is a gradient that has looked at its own discontinuities."""
        # Which draws move with what is differentiated depends on the rules of those before them, and in a loop of
        # those after them: repeat until nothing changes. A path is followed only through draws that take it.
        moving = ARGUMENT
        for _ in range(2 + len(self.analysis.draws)):
            facts = {i: self.facts(i, draw, moving) for i, draw in self.analysis.draws.items()}
            pathwise = [i for i in facts if facts[i].moved and self.takes_path(i, facts[i])]
            following = ARGUMENT | sum(bit(i) for i in pathwise)
            if following == moving:
                break
            moving = following
        self.affordable = AFFORDABLE
        for i in sorted(facts):
            self.one(i, facts[i])
        self.whole(facts, moving, certified)
        return self.choice

    def takes_path(self, i: int, facts: Facts) -> bool:
        rule = self.named.get(i)
        if rule is not None:
            return isinstance(rule, Pathwise | Rebar)  # in whose replays what it moves has to move too
        return _serves(Pathwise(), facts) or _follows(facts)

    def facts(self, i: int, draw: Operation, moving: int) -> Facts:
        site, nature = draw.site, self.natures[i]
        assert site is not None
        operands = [] if site.empty else self.analysis.operands[i]
        moved = frozenset(n for n, flow in enumerate(operands) if flow.tangent & moving)
        lengths = [loop.length for loop in site.repeats]
        unbounded = None in lengths
        elements = None if unbounded or nature.elements is None else nature.elements
        for times in (*(lane.size for lane in site.lanes), *lengths):
            elements = None if elements is None or times is None else elements * times
        broken = any(flow.broken & bit(i) for flow in self.outputs)
        breaks = tuple(self.analysis.breaks.get(bit(i), ())) or (Break("an operation", "an unknown line"),)
        return Facts(
            site=site,
            discrete=nature.discrete,
            moved=moved,
            rough={n: where for n, where in nature.rough.items() if n in moved},
            edges=moved & nature.edges,
            breaks=breaks if broken else (),
            support=nature.support,
            elements=elements,
            law=nature.law,
            parameters=frozenset(name for name, operands in nature.parameters.items() if operands & moved),
            kinks=tuple(where for n, where in nature.kinks.items() if n in moved),
            shared_key=self.shared_keys.get(i),
            looped=bool(lengths),
            unbounded=unbounded,
            order=self.order,
            normalized=getattr(nature.law, "normalized", True) is not False,
            linked=any(flow.reach or flow.random for flow in self.analysis.operands[i][1:]),
        )

    def follower(self, i: int) -> str | None:
        """What a draw is called that depends on the value of this one and moves neither by its path nor as this one."""
        for j, operands in self.analysis.operands.items():
            site = self.analysis.draws[j].site
            dependent = any(flow.tangent & bit(i) for flow in operands)
            if dependent and site is not None and not isinstance(self.choice.rules[j], Rebar | Pathwise):
                return site.label
        return None

    def one(self, i: int, facts: Facts) -> None:
        rule, empty = self.named.get(i), facts.site.empty
        reached = not empty and any(flow.reach & bit(i) for flow in self.outputs)
        legal: list[Rule] = [r for r in RULES if _serves(r, facts)]
        if rule is not None:
            self.check(rule, facts, legal)
            if reason := rule.bias(facts):
                self.choice.biases[i] = reason
        unmoved = not facts.moved and not isinstance(rule, Marginalize)  # which takes away noise that does not move too
        if unmoved or not reached:
            unused = "it has no elements" if empty else "the result does not use it"
            what = "nothing that is differentiated moves its distribution" if reached else unused
            self.choice.rules[i], self.choice.reasons[i] = None, what
            self.choice.biases.pop(i, None)
            return
        self.choice.legal[i] = legal
        rule, reason = self.best(facts, legal) if rule is None else (rule, "named by the user")
        self.choice.rules[i] = rule.told(facts) if isinstance(rule, Replay) else rule
        self.choice.reasons[i] = reason

    def best(self, facts: Facts, legal: list[Rule]) -> tuple[Rule, str]:
        kinds = [type(rule) for rule in legal]
        if Pathwise in kinds:
            return Pathwise(), "its sampler and the path to the result are smooth"
        if _follows(facts):
            return ImplicitReparameterization(), "its distribution function and the path to the result are smooth"
        why = Pathwise().refuse(facts) or Pathwise().bias(facts)
        replays = (facts.support or 0) * (facts.elements or 0)
        if Enumerate in kinds and replays <= self.affordable:
            self.affordable -= replays
            return Enumerate(), f"{replays} replays cover its support"
        if Score in kinds:
            return Score(), f"not pathwise: {why}"
        if Covariance in kinds:
            return Covariance(), f"not pathwise: {why}; its density is known up to a constant"
        if legal:
            return legal[0], f"not pathwise: {why}; not score: {Score().refuse(facts)}"
        raise BiasedGradientError(
            f"no rule gives an unbiased gradient through the draw {facts.site.label!r} ({facts.site.source}, "
            f"{facts.site.distribution}). Pathwise: {why}. Score: {Score().refuse(facts)}. "
            f"Enumerate: {Enumerate().refuse(facts)}."
        )

    def check(self, rule: Rule, facts: Facts, legal: list[Rule]) -> None:
        who = _who(facts.site)
        others = ", ".join(type(other).__name__ for other in legal) or "none of the others either"
        if reason := rule.refuse(facts):
            raise ValueError(f"rules: {type(rule).__name__} cannot serve {who}: {reason}. Those that can: {others}.")
        insisted = self.allow_bias or isinstance(rule, Relaxation)
        if (reason := rule.bias(facts)) and facts.moved and not insisted:
            raise BiasedGradientError(
                f"{type(rule).__name__} would be biased for {who}: {reason}. Unbiased there: {others}. "
                "Leave the rule out to have one chosen, or pass allow_bias=True to insist."
            )

    def whole(self, facts: Mapping[int, Facts], moving: int, certified: bool) -> None:
        """What no rule of a draw can mend."""
        broken = not certified and any(flow.broken & ARGUMENT for flow in self.outputs)
        if broken:
            where = self.analysis.breaks[ARGUMENT][0]
            self.choice.bias = f"a differentiated argument meets random values in the discontinuity {where}"
            if not self.allow_bias:
                raise BiasedGradientError(
                    f"{self.choice.bias}; the derivative of the probability to land on either side would be lost, "
                    "whatever the rules of the draws. Let the argument enter through the distribution of a vt.draw "
                    "(a threshold t on z ~ Normal(m, s) is a threshold 0 on z ~ Normal(m - t, s); "
                    "jax.random.bernoulli(key, p) is vt.draw(key, Bernoulli(p))), or pass allow_bias=True to insist."
                )
        for i, rule in self.choice.rules.items():
            if isinstance(rule, Rebar) and (follower := self.follower(i)):
                who = _who(self.analysis.draws[i].site)
                raise ValueError(
                    f"rules: Rebar cannot serve {who}: the draw {follower!r} depends on it and is not relaxed with it. "
                    "Name Rebar for that draw too."
                )
        contributing = {i for i, rule in self.choice.rules.items() if isinstance(rule, Score | Replay | Control)}
        self.choice.marginalized = {i: facts[i] for i, r in self.choice.rules.items() if isinstance(r, Marginalize)}
        check_outcomes(self.choice.marginalized, self.choice.rules, contributing, self.analysis)
        for operation in every_operation(self.program):
            if operation.name == "call_hi_primitive":  # what it is called from JAX 0.12 on
                raise TypeError(
                    "jax.lax.custom_root cannot be followed here, and its derivative would be lost: use vt.implicit"
                )
            if operation.name != "while" or not operation.sites:
                continue  # reverse mode through a loop without draws is JAX's business
            if self.analysis.loops[id(operation)].tangent & moving or operation.bodies[0].sites:
                self.refuse_loop(operation, bool(operation.bodies[0].sites), contributing)

    def refuse_loop(self, operation: Operation, condition: bool, contributing: set[int]) -> None:
        inside = [site for site in operation.sites if site.index in contributing]
        if not inside and not condition:
            return
        what = (
            "its condition draws: draw in its body and carry the value"
            if condition
            else "a value that is carried round it depends on what is differentiated. Bound its length and write it as "
            "a scan or a fori_loop that does nothing once it is done, or let it carry drawn values alone"
        )
        where = inside[0].source if inside else operation.bodies[0].sites[0].source
        raise TypeError(f"reverse mode cannot pass the while_loop around the draw at {where}: {what}.")


def _who(site: Site | None) -> str:
    assert site is not None
    return f"the draw {site.label!r} ({site.source}, {site.distribution})"


def _serves(rule: Rule, facts: Facts) -> bool:
    return rule.refuse(facts) is None and rule.bias(facts) is None


def _follows(facts: Facts) -> bool:
    """Whether a draw may be followed by its distribution function without being asked to."""
    implicit = ImplicitReparameterization()
    return _serves(implicit, facts) and implicit.unasked(facts)
