"""The claims of papers on what networks of diffusion and flow models are trained by."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from claim import Claim
from diffusion_measures import PROCESS, Distance, Law, Misses, judged, law, lower, nearer, told

from variate.demo import digit_denoiser
from variate.diffusion import (
    DDIM,
    Ancestral,
    AncestralLearned,
    Denoiser,
    Flow,
    LearnedVP,
    NoiseAndShare,
    Rescaled,
    VelocityPrediction,
    coupled,
    denoising_loss,
    sample,
    uniform,
    variance_loss,
    velocity,
)

NETWORK = "digits' network"


class Speed(eqx.Module):
    """A small network for two coordinates."""

    layers: eqx.nn.MLP

    def __call__(self, x: Any, t: Any) -> Any:
        angles = jnp.stack([t, jnp.sin(3 * t), jnp.cos(3 * t)]).astype(x.dtype)
        return self.layers(jnp.concatenate([x, angles]))


def trained(pairing: Callable[[Any, Any], Any], rows: Any, steps: int) -> Denoiser:
    """A velocity of straight paths from noise that is paired with data, and the same steps for each pairing."""
    process, optimizer = Flow(), optax.adam(optax.cosine_decay_schedule(3e-3, steps))
    model = VelocityPrediction(process, Speed(eqx.nn.MLP(5, 2, 96, 3, jax.nn.silu, key=jax.random.key(13))))
    state, rng = optimizer.init(eqx.filter(model, eqx.is_inexact_array)), np.random.default_rng(14)

    @eqx.filter_jit
    def step(model: Any, state: Any, data: Any, start: Any, times: Any) -> Any:
        def loss(model: Any) -> Any:
            return denoising_loss(jax.random.key(0), model, data, times, form=velocity, start=start)

        changes, state = optimizer.update(eqx.filter_grad(loss)(model), state)
        return eqx.apply_updates(model, changes), state

    for _ in range(steps):
        data = jnp.asarray(rows[rng.integers(len(rows), size=128)])
        start = pairing(jnp.asarray(rng.normal(size=data.shape)), data)
        model, state = step(model, state, data, start, jnp.asarray(rng.uniform(size=128)))
    return model


def couplings(count: int) -> Claim:
    one = law("25 normals, 2-D")
    start = jax.random.normal(jax.random.key(15), (count, 2))
    found, far = {}, {}
    for kind, pairing in (("coupled", coupled), ("independent", lambda noise, data: noise)):
        model = trained(pairing, one.right, min(count, 1_500))

        def ends(solver: Any, steps: int, model: Any = model) -> np.ndarray:
            times = uniform(model.process, steps, end=0.0)
            return np.asarray(sample(jax.random.key(0), model, solver, times, start.shape, start=start).values)

        few, fine = ends(DDIM(), 4), ends(DDIM(), 500)
        found[kind], far[kind] = Misses(np.mean((few - fine) ** 2, axis=1)), one.far(few)
    ratio = nearer(found["coupled"], found["independent"])
    return judged(
        "Pooladian et al. (2023), multisample flow matching",
        "noise paired with data by optimal transport makes straighter flows, of which fewer steps are enough",
        f"25 normals, small networks trained alike; four steps of Euler's, times less rms distance from the network's "
        f"own ends: {ratio}; sliced Wasserstein distance of the four steps: {told(far.items())}",
        {"own ends": ratio.more, "the law": lower(far["coupled"], far["independent"])},
    )


def descended(loss: Callable[[Any, Any], Any], inner: Any, rate: Any, keys: Any) -> Any:
    """What a loss of parameters and a key leads them to by Adam, a step for each key."""
    optimizer = optax.adam(rate)

    def step(carry: Any, key: Any) -> Any:
        inner, state = carry
        changes, state = optimizer.update(jax.grad(loss)(inner, key), state)
        return (optax.apply_updates(inner, changes), state), None

    (inner, _), _ = jax.jit(lambda carry: jax.lax.scan(step, carry, keys))((inner, optimizer.init(inner)))
    return inner


def learned_process(count: int) -> Claim:
    """The diffusion loss of an exact denoiser, as a function of the levels in between."""
    fixed, given = PROCESS, law("10 normals, 32-D")
    levels = fixed.half_log_snr(jnp.asarray([1e-3, 1.0]))
    begun = LearnedVP(jax.random.key(16), *(-2 * float(level) for level in levels), width=16)
    model: Any = given.model

    def losses(process: Any, key: Any, number: int) -> Any:
        """Half of the slope of gamma times the squared miss of the noise: an unbiased estimate each, of one number."""
        k1, k2, k3 = jax.random.split(key, 3)
        rows = jnp.asarray(given.right)[jax.random.randint(k1, (number,), 0, len(given.right))]
        times = 1e-3 + (1 - 1e-3) * (jnp.arange(number) + jax.random.uniform(k2, (number,))) / number
        noise = jax.random.normal(k3, rows.shape)

        def one(row: Any, t: Any, e: Any) -> Any:
            level, slope = process.level(t), jax.grad(lambda t: -2 * process.half_log_snr(t))(t)
            off = model.predict(level.alpha * row + level.sigma * e, level).noise - e
            return 0.5 * (1 - 1e-3) * slope * jnp.sum(off**2)

        return jax.vmap(one)(rows, times, noise)

    inner = eqx.filter(begun, lambda leaf: eqx.is_inexact_array(leaf) and leaf.ndim > 0)  # not the ends
    rest = eqx.filter(begun, lambda leaf: eqx.is_inexact_array(leaf) and leaf.ndim > 0, inverse=True)

    def square(inner: Any, key: Any) -> Any:
        return jnp.mean(losses(eqx.combine(inner, rest), key, 256) ** 2)

    inner = descended(square, inner, 3e-2, jax.random.split(jax.random.key(17), min(count, 300)))
    learned, number = eqx.combine(inner, rest), 4 * count
    found = {
        kind: np.asarray(losses(process, jax.random.key(18), number))
        for kind, process in (("learned", learned), ("fixed", fixed))
    }
    mean = {kind: (float(x.mean()), float(x.std() / number**0.5)) for kind, x in found.items()}
    variance = {kind: (x - x.mean()) ** 2 for kind, x in found.items()}
    times = float(variance["fixed"].mean() / variance["learned"].mean())
    error = times * float(np.hypot(*(v.std() / v.mean() / number**0.5 for v in variance.values())))
    apart = abs(mean["learned"][0] - mean["fixed"][0]) / float(np.hypot(mean["learned"][1], mean["fixed"][1]))
    return judged(
        "Kingma et al. (2021), variational diffusion models",
        "the loss is the same for all schedules with the same ends, and learned levels lessen its variance",
        f"10 normals, exact denoiser, the levels of the linear process as they are and learned: loss "
        f"{told((kind, f'{value:.4g} ± {error:.1g}') for kind, (value, error) in mean.items())}; variance {times:.3g} "
        f"± {error:.1g} times less",
        {"the same loss": apart < 3, "less variance": times - 3 * error > 1},
    )


class Share(eqx.Module):
    """The noise that the network of digits predicts, and v of each pixel by another network, which is trained."""

    layers: eqx.nn.MLP

    def __call__(self, x: Any, t: Any) -> Any:
        level = PROCESS.level(t)
        size = jnp.sqrt((level.alpha * digit_denoiser.SPREAD) ** 2 + level.sigma**2)
        told = jnp.stack([t, jnp.log(level.sigma / level.alpha)]).astype(x.dtype)
        known: Any = law(NETWORK).model
        return known.predict(x, level).noise, 0.5 + self.layers(jnp.concatenate([x / size, told]))


def shared(times: np.ndarray, steps: int) -> NoiseAndShare:
    """v for the steps between some times, the last of which leads to no noise."""
    begun = Share(eqx.nn.MLP(66, 64, 128, 2, jax.nn.silu, dtype=jnp.float32, key=jax.random.key(19)))
    images = jnp.asarray(digit_denoiser.digits()[0])
    first, second = jnp.asarray(times[:-2], images.dtype), jnp.asarray(times[1:-1], images.dtype)

    inner, rest = eqx.partition(begun, eqx.is_inexact_array)

    def loss(inner: Any, key: Any) -> Any:
        k1, k2, k3 = jax.random.split(key, 3)
        rows, at = jax.random.randint(k1, (256,), 0, len(images)), jax.random.randint(k2, (256,), 0, len(first))
        model = NoiseAndShare(PROCESS, eqx.combine(inner, rest))
        return variance_loss(k3, model, images[rows], first[at], second[at])

    rate, keys = optax.cosine_decay_schedule(1e-3, steps), jax.random.split(jax.random.key(20), steps)
    return NoiseAndShare(PROCESS, eqx.combine(descended(loss, inner, rate, keys), rest))


def learned_variances(count: int) -> Claim:
    one, long = law(NETWORK), uniform(PROCESS, 250, end=0.0)
    kinds = {
        "learned": (shared(long, min(count, 3_000)), AncestralLearned()),
        "larger": (one.model, Ancestral(1.0)),
        "smaller": (one.model, DDIM(1.0)),
    }
    found = {
        steps: {
            kind: Law(model, one.right).of(count, solver, long[:: 250 // steps])
            for kind, (model, solver) in kinds.items()
        }
        for steps in (250, 50, 25)
    }
    outcomes = {
        f"no loss in {steps} steps": not lower(found[250]["learned"], found[steps]["learned"]) for steps in (50, 25)
    }
    outcomes |= {
        f"the {kind} in {steps} steps": lower(found[steps]["learned"], found[steps][kind])
        for steps in (50, 25)
        for kind in ("larger", "smaller")
    }
    return judged(
        "Nichol and Dhariwal (2021), learned variances",
        "with variances that are learned an order of magnitude fewer steps are enough, at hardly any loss",
        "the network, whose v is learned for 250 steps; sliced Wasserstein distance from the digits that it learned, "
        "by variances, at all of these steps and at some: "
        + "; ".join(f"{steps} steps: {told(row.items())}" for steps, row in found.items()),
        outcomes,
        "beside the fixed variances",
    )


def perturbed(count: int) -> Claim:
    """Networks of the same size as the one that is shipped, trained for a quarter as long."""
    right, keys = law(NETWORK).right, [jax.random.key(seed) for seed in (21, 22, 23)]
    ways = {"ancestral": Ancestral(1.0), "DDIM": DDIM()}
    times, found = uniform(PROCESS, 50, end=0.0), {}
    for strength in (0.0, 0.1):
        with jax.enable_x64(False):
            networks = [digit_denoiser.train(key, min(count, 3_000), strength) for key in keys]
        models = [Rescaled(PROCESS, digit_denoiser.denoiser(network)) for network in networks]
        for kind, solver in ways.items():
            each = [Law(model, right).of(count, solver, times).value for model in models]
            found[kind, strength] = Distance(float(np.mean(each)), float(np.std(each, ddof=1) / len(each) ** 0.5))
    rows = {
        kind: told((f"{strength:g}", far) for (name, strength), far in found.items() if name == kind) for kind in ways
    }
    return judged(
        "Ning et al. (2023), input perturbation",
        "noise that a network is trained with and not told of, 0.1 of the standard deviation, makes draws better (FID "
        "1.27 on CelebA) and training shorter",
        f"networks of digits, {len(keys)} of each kind, 3,000 steps of training, 50 of sampling; mean and standard "
        "error over networks of the sliced Wasserstein distance from the digits, by strength, "
        + "; ".join(f"{kind}: {row}" for kind, row in rows.items()),
        {kind: lower(found[kind, 0.1], found[kind, 0.0]) for kind in ways},
        "the length of training was not looked at",
    )


CLAIMS = (couplings, learned_process, learned_variances, perturbed)
