"""The rows of the law table for NumPyro's distributions of counts, and of mixtures of counts and numbers."""

import jax.numpy as jnp
import numpyro.distributions as dist
from jax.nn import softmax
from programs.laws import Row, bins, counts, scores
from programs.rows import at, row

COUNTED: dict[str, Row] = {
    "BernoulliLogits": row(
        dist.BernoulliLogits, counts, at(0, logits=0), at(1, logits=0), at(1, logits=-40), at(0, logits=40), logits=0.7
    ),
    "BernoulliProbs": row(
        dist.BernoulliProbs, counts, at(0, probs=0, side=1), at(1, probs=1, side=-1), at(1, probs=0.5), probs=0.3
    ),
    "BetaBinomial": row(
        lambda a, b: dist.BetaBinomial(a, b, 6), counts, at(3, a=1, b=1), at(0, a=2, b=2), a=1.7, b=2.4
    ),
    "BetaNegativeBinomial": row(
        lambda a, b, n: dist.BetaNegativeBinomial(a, b, n), counts, at(1, a=2, b=2, n=1), a=1.7, b=4.4, n=3
    ),
    "BinomialLogits": row(
        lambda logits: dist.BinomialLogits(logits, 7), counts, *(at(x, logits=0) for x in (0, 3, 7)), logits=0.7
    ),
    "BinomialProbs": row(
        lambda probs: dist.BinomialProbs(probs, 7), counts, at(0, probs=0, side=1), at(7, probs=1, side=-1), probs=0.3
    ),
    "CategoricalLogits": row(dist.CategoricalLogits, counts, at(1, logits=[0, 0, 0]), logits=[0.3, -0.4, 0.9]),
    "CategoricalProbs": row(
        lambda logits: dist.CategoricalProbs(softmax(logits)), counts, at(1, logits=[0, 0, 0]), logits=[0.3, -0.4, 0.9]
    ),
    "DirichletMultinomial": row(
        lambda c: dist.DirichletMultinomial(c, 5), scores, at([5, 0, 0], c=[1, 1, 1]), c=[1.3, 2.2, 0.8]
    ),
    "DiscreteUniform": row(lambda: dist.DiscreteUniform(-1, 4), counts),
    "GammaPoisson": row(dist.GammaPoisson, counts, at(1, concentration=2, rate=1), concentration=1.7, rate=0.7),
    "GeometricLogits": row(dist.GeometricLogits, counts, at(0, logits=0), at(3, logits=0), logits=-0.4),
    "GeometricProbs": row(dist.GeometricProbs, counts, at(0, probs=1, side=-1), at(3, probs=0.5), probs=0.3),
    "HurdleGamma": row(
        dist.HurdleGamma,
        bins,
        at(0),
        at(0, gate=1, side=-1),
        at(0.7, gate=0, side=1),
        gate=0.3,
        concentration=1.7,
        rate=1.4,
    ),
    "HurdleLogNormal": row(dist.HurdleLogNormal, bins, at(0), at(0.7, gate=0, side=1), gate=0.3, loc=0.2, scale=0.7),
    "HurdleLogits": row(
        lambda gate, rate: dist.HurdleLogits(dist.Poisson(rate), gate),
        counts,
        at(0, gate=0),
        at(2, gate=0),
        gate=-0.5,
        rate=1.8,
    ),
    "HurdlePoisson": row(
        dist.HurdlePoisson, counts, at(0), at(0, gate=1, side=-1), at(2, gate=0, side=1), gate=0.3, rate=1.8
    ),
    "HurdleProbs": row(
        lambda gate, logits: dist.HurdleProbs(dist.Binomial(4, logits=logits), gate),
        counts,
        at(2, logits=0),
        gate=0.3,
        logits=0.7,
    ),
    "MixtureSameFamily of Bernoullis": row(
        lambda w, logits: dist.MixtureSameFamily(dist.Categorical(logits=w), dist.Bernoulli(logits=logits)),
        counts,
        at(0, w=[0, 0], logits=[0, 0.5]),
        w=[0.3, -0.2],
        logits=[0.7, 0.1],
    ),
    "MultinomialLogits": row(
        lambda logits: dist.MultinomialLogits(logits, 5),
        scores,
        at([5, 0, 0], logits=[0, 0, 0]),
        logits=[0.3, -0.4, 0.9],
    ),
    "MultinomialProbs": row(
        lambda t: dist.MultinomialProbs(jnp.stack([0.8 * t, 0.8 * (1 - t), jnp.full_like(t, 0.2)]), 5),
        scores,
        at([0, 3, 2], t=0, side=1),
        at([3, 0, 2], t=1, side=-1),
        t=0.4,
    ),
    "NegativeBinomial2": row(dist.NegativeBinomial2, counts, at(1, mean=2, concentration=2), mean=2, concentration=1.5),
    "NegativeBinomialLogits": row(dist.NegativeBinomialLogits, counts, at(1, logits=0), total_count=3.3, logits=-0.4),
    "NegativeBinomialProbs": row(
        dist.NegativeBinomialProbs, counts, at(1, total_count=2, probs=0.5), total_count=3.3, probs=0.4
    ),
    "OrderedLogistic": row(
        dist.OrderedLogistic,
        counts,
        at(1, predictor=0, cutpoints=[-1, 0, 1]),
        predictor=0.3,
        cutpoints=[-0.5, 0.4, 1.5],
    ),
    "Poisson": row(dist.Poisson, counts, at(0, rate=0, side=1), at(3, rate=1), rate=2.3),
    "ZeroInflatedLogits": row(
        lambda gate, logits: dist.ZeroInflatedLogits(dist.Bernoulli(logits=logits), gate),
        counts,
        at(0, gate=0, logits=0),
        at(1, gate=0, logits=0),
        gate=-0.5,
        logits=0.7,
    ),
    "ZeroInflatedPoisson": row(
        dist.ZeroInflatedPoisson, counts, at(0, rate=0, side=1), at(0, ("gate",), gate=1, side=-1), gate=0.3, rate=1.8
    ),
    "ZeroInflatedProbs": row(
        lambda gate, logits: dist.ZeroInflatedProbs(dist.Bernoulli(logits=logits), gate),
        counts,
        at(0, logits=0),
        at(0, ("gate",), gate=1, side=-1),
        at(0, ("gate",), gate=0, side=1),
        gate=0.3,
        logits=0.7,
    ),
}
