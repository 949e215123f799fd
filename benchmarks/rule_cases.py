"""A program for each rule, and who writes the rule by hand for it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import peers_perturbations as boxes
import peers_relaxations as soft
import peers_rules as by_hand
import programs
from jax.ad_checkpoint import checkpoint_name
from jax.nn import log_softmax

import variate as vt
from variate import gradients as g
from variate import subsets

LATENTS, HIDDEN, GROUPS = 8, 512, 8


def parameters(*shape: int, inputs: int | None = None) -> dict[str, jax.Array]:
    """Latents of a shape, and a network with as many inputs as they are, or another number."""
    generator, inputs = np.random.default_rng(0), inputs or int(np.prod(shape))

    def normal(*size: int) -> jax.Array:
        return jnp.asarray(generator.normal(size=size) / np.sqrt(size[0]), jnp.float32)

    layers = {"in": normal(inputs, HIDDEN), "between": normal(HIDDEN, HIDDEN), "out": normal(HIDDEN, 32)}
    return {"latents": 0.5 * jnp.asarray(generator.normal(size=shape), jnp.float32), **layers}


def drawn(law: Callable[[jax.Array], Any], features: Callable[[jax.Array], jax.Array]) -> programs.Program:
    def program(key, params):
        return by_hand.cost(params, features(vt.draw(key, law(params["latents"]), name="x")))

    return program


def real(x):
    return x.astype(jnp.float32)


def hot(x):
    return jax.nn.one_hot(x, by_hand.FACES)


class Energy(eqx.Module):
    """Coins whose density lacks its constant."""

    logits: jax.Array
    normalized = False

    def sample(self, key):
        return jax.random.bernoulli(key, jax.nn.sigmoid(self.logits)).astype(self.logits.dtype)

    def log_prob(self, x):
        return jnp.sum(self.logits * x)


def two_normals(t):
    return dist.MixtureSameFamily(dist.Categorical(by_hand.WEIGHTS), dist.Normal(jnp.stack([t, -t], axis=-1), 1.0))


NORMALS = drawn(lambda t: dist.Normal(t, 1.0), real)
COINS = drawn(lambda t: dist.Bernoulli(logits=t), real)
COUNTS = drawn(lambda t: dist.Poisson(jnp.exp(t)), real)
WAITS = drawn(lambda t: dist.Exponential(jnp.exp(t)), real)
GAMMAS = drawn(lambda t: dist.Gamma(jnp.exp(t), 1.0), real)
DICE = drawn(lambda t: dist.Categorical(logits=t), hot)
MIXTURES, ENERGIES = drawn(two_normals, real), drawn(Energy, real)
SETS, MASKS = drawn(lambda t: subsets.TopK(t, 3), real), drawn(lambda t: subsets.NMMask(t, 2, 4), real)


def beside_normals(key, params):
    """Coins, and as many normal numbers, which take their path."""
    first, second = jax.random.split(key)
    logits, means = jnp.split(params["latents"], 2)
    b = vt.draw(first, dist.Bernoulli(logits=logits), name="x").astype(logits.dtype)
    return by_hand.cost(params, jnp.concatenate([b, vt.draw(second, dist.Normal(means, 1.0), name="z")]))


def tokens(key, params):
    """Each costs how much likelier it is than a teacher says, who knows the last one."""

    def turn(state, key):
        hidden, last = state
        student = checkpoint_name(hidden @ params["out"], "student")
        teacher = checkpoint_name(by_hand.TEACHER[last], "teacher")
        x = vt.draw(key, dist.Categorical(logits=student), name="x")
        paid = log_softmax(student)[x] - log_softmax(teacher)[x]
        return (jnp.tanh(hidden @ params["between"] + params["out"].T[x]), x), paid

    start = jnp.tanh(params["latents"] @ params["in"]), jnp.zeros((), int)
    return jnp.sum(jax.lax.scan(turn, start, jax.random.split(key, by_hand.LENGTH))[1])


class Case(NamedTuple):
    rule: g.Rule | g.Perturbation
    program: programs.Program
    hand: Callable[..., Any]

    @property
    def name(self) -> str:
        baseline = getattr(self.rule, "baseline", None)
        told = type(baseline).__name__ if isinstance(self.rule, g.Score) and baseline else None
        return f"Score({told})" if told and type(self.rule) is g.Score else type(self.rule).__name__

    @property
    def params(self) -> dict[str, jax.Array]:
        if self.program is MASKS:
            return parameters(GROUPS, 6, inputs=GROUPS * 4)
        return parameters(LATENTS, by_hand.FACES) if self.program is DICE else parameters(LATENTS)


CASES = (
    Case(g.Pathwise(), NORMALS, by_hand.pathwise),
    Case(g.ImplicitReparameterization(), MIXTURES, by_hand.implicit),
    Case(g.AcceptanceRejection(), GAMMAS, by_hand.acceptance_rejection),
    Case(g.Score(), COINS, by_hand.score),
    Case(g.Score(g.TokenKL("student", "teacher")), tokens, by_hand.tokens),
    Case(g.Covariance(), ENERGIES, by_hand.covariance),
    Case(g.Enumerate(), COINS, by_hand.enumerated),
    Case(g.Marginalize(), beside_normals, by_hand.marginalized),
    Case(g.Coupled(), COUNTS, by_hand.coupled),
    Case(g.MeasureValued(), WAITS, by_hand.measure_valued),
    Case(g.DisARM(), COINS, by_hand.disarm),
    Case(g.ARM(), COINS, by_hand.arm),
    Case(g.ARSM(), DICE, by_hand.arsm),
    Case(g.SumAndSample(1), DICE, by_hand.sum_and_sample),
    Case(g.UnorderedSet(2), DICE, by_hand.unordered_set),
    Case(g.Rebar(0.5), DICE, by_hand.rebar),
    Case(g.Relax(by_hand.layer), DICE, by_hand.relax),
    Case(g.StraightThrough(), DICE, soft.straight_through),
    Case(g.GumbelSoftmax(0.5), DICE, soft.gumbel_softmax),
    Case(g.GumbelStraightThrough(0.5), DICE, soft.gumbel_straight_through),
    Case(g.GumbelRao(0.5), DICE, soft.gumbel_rao),
    Case(g.ReinMax(), DICE, soft.reinmax),
    Case(g.StructuredRelaxation(0.5), SETS, soft.top_k),
    Case(g.MarginalStraightThrough(), MASKS, soft.masks),
    Case(g.SPSA(boxes.SCALE), COINS, boxes.spsa),
    Case(g.EvolutionStrategies(boxes.SCALE), COINS, boxes.evolution_strategies),
)
