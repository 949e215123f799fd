"""What draws say of themselves: doubts in words, and trees for ArviZ."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import stats

import variate as vt
from variate.running import Draws
from variate.running.measures import rank_rhat, rhat_by_chance

RANDOM = np.random.default_rng(0)


def draws_of(values: np.ndarray, divergent: int = 0) -> Draws:
    lost = np.zeros(values.shape[:2], bool)
    lost.ravel()[:divergent] = True
    return Draws({"x": values}, np.ones(values.shape[:2]), lost, np.ones(values.shape[:2], int))


def test_each_doubt_has_its_words_and_independent_draws_have_none() -> None:
    independent = RANDOM.normal(size=(4, 1000))
    assert draws_of(independent).doubts() == []
    assert draws_of(independent, divergent=4).doubts() == []
    assert "5 of 4000 steps diverged" in draws_of(independent, divergent=5).doubts()[0]
    apart = independent + np.arange(4)[:, None]
    assert draws_of(apart).doubts()[0].startswith("chains disagree on x: R-hat is")
    stuck = np.where(np.arange(4)[:, None] == 2, 0.0, independent)
    assert draws_of(stuck).doubts() == ["a chain stands still in x"]
    assert draws_of(independent[:, :60]).doubts()[0].startswith("only ")
    assert not draws_of(apart).expect().converged


def test_a_few_draws_are_told_to_be_few_and_not_stuck() -> None:
    for count in (1, 7):
        (doubt,) = draws_of(RANDOM.normal(size=(4, count))).doubts()
        assert doubt.startswith(f"there are {count} draws of each chain")
    assert not any("stands still" in doubt for doubt in draws_of(RANDOM.normal(size=(4, 30)).repeat(3, 1)).doubts())


def test_chance_is_no_disagreement_and_what_it_does_not_explain_is_one() -> None:
    """Of 100 draws by each of four chains that agree one number in ten has an R-hat above 1.01: no doubt."""
    x = RANDOM.normal(size=(4, 100, 300))
    assert np.sum(rank_rhat(x) >= 1.01) >= stats.binom.ppf(1e-6, 300, 0.1)
    limits = [rhat_by_chance(x[..., n : n + 1], alarm=1e-6)[0] for n in range(300)]
    assert np.all(rank_rhat(x) < limits)
    off = np.array([0.0, 0.0, 0.0, 0.4])[:, None]
    for spread, count in ((1.0, 1000), (1.7, 100)):  # of many draws little is a doubt, of few what is more
        assert "disagree" in draws_of(RANDOM.normal(size=(4, count)) + spread * off).doubts()[0]
    slow = autoregressive(0.97, 4, 1000)  # of too few effective draws chance excuses no more than of those wanted
    assert np.all(rhat_by_chance(slow) == rhat_by_chance(np.repeat(slow[:, ::8], 8, 1)))


def test_a_rule_that_is_met_by_chains_that_agree_is_hardly_doubted() -> None:
    """Runs that end at 400 effective draws: one of ten is in doubt, of R-hats by chance and of tails by noise.

    Where it is no more, so many of 200 are but once in a million times.
    """
    doubted = sum(bool(draws_of(RANDOM.normal(size=(4, 115))).doubts()) for _ in range(200))
    assert doubted <= stats.binom.isf(1e-6, 200, 0.1)


def test_what_is_constant_by_itself_is_no_doubt_and_what_stands_still_is_one() -> None:
    x = RANDOM.normal(size=(4, 1000, 2, 2))
    x[:, :, 0, 0], x[:, :, 0, 1] = 1.0, 0.0
    triangle = dataclasses.replace(draws_of(x), constants={"x": (0, 1)})
    assert triangle.doubts() == []
    estimate = triangle.expect()
    assert estimate.converged
    assert estimate.stderr["x"][0].tolist() == [0.0, 0.0]
    assert estimate.degrees == draws_of(x[:, :, 1]).expect().degrees
    assert np.all(triangle.ess()["x"][0] == np.inf)
    assert np.all(triangle.rhat()["x"][0] == 1.0)
    assert triangle.quantile(0.5).stderr["x"][0].tolist() == [0.0, 0.0]
    assert "Nothing is found" in str(triangle.summary())
    assert triangle.doubts(lambda x: x["x"] + 1.0) == []
    assert triangle.expect(lambda x: x["x"][0]).stderr.tolist() == [0.0, 0.0]
    assert triangle.doubts(lambda x: {"three": 3.0, "corner": jnp.append(x["x"][1], 1.0)}) == []
    assert triangle.doubts(lambda x: x["x"][1, 0] > 99) == ["a chain stands still in the draws"]  # or a rare event
    x[2, :, 1, 0] = 0.3
    assert dataclasses.replace(triangle, values={"x": x}).doubts() == ["a chain stands still in x"]
    stuck = dataclasses.replace(triangle, values={"x": x})
    assert stuck.doubts(lambda x: jnp.append(x["x"], 1.0)) == ["a chain stands still in the draws"]
    assert np.isnan(stuck.expect(lambda x: x["x"] + 1.0).stderr[1, 0])


def test_steps_that_are_refused_far_out_are_a_doubt_and_others_are_none() -> None:
    """In a tail, where chains that come stay, and seldom come; as many elsewhere say nothing."""
    x = RANDOM.normal(size=(4, 1000))
    before = np.concatenate([x[:, :1], x[:, :-1]], 1)

    def told(refused: np.ndarray) -> list[str]:
        acceptance = np.where(refused, 0.4, 0.95)
        return dataclasses.replace(
            draws_of(x), acceptance=acceptance, told={"energy": RANDOM.normal(size=x.shape)}
        ).doubts()

    (doubt,) = told(before > stats.norm.ppf(0.95))
    assert doubt.startswith("steps from the outermost draws of x are accepted with probability 0.4")
    assert told(np.abs(before) < stats.norm.ppf(0.525)) == []
    assert told(RANDOM.uniform(size=x.shape) < 0.05) == []


def test_what_is_predicted_of_no_draw_is_no_doubt() -> None:
    draws = draws_of(RANDOM.normal(size=(4, 200)))
    made = draws.predict(jax.random.key(0), lambda key, x: {"y": x["x"] + jax.random.normal(key), "half": 0.5})
    assert made.doubts() == []
    assert made.expect().stderr["half"] == 0


def test_arviz_has_every_number_whatever_it_is_called() -> None:
    x = RANDOM.normal(size=(4, 20))
    values = {"chain": x, "draw": -x, "net/w": 2 * x, "net.w": 3 * x}
    posterior = dataclasses.replace(draws_of(x), values=values).to_arviz()["posterior"]
    assert sorted(posterior.data_vars) == ["chain_", "draw_", "net.w", "net.w_"]
    assert np.array_equal(posterior["chain_"], x)
    found = {name: float(np.mean(posterior[name] / x)) for name in ("net.w", "net.w_")}
    assert sorted(found.values()) == pytest.approx([2.0, 3.0])


def test_single_numbers_far_off_are_added_up_in_double() -> None:
    """A sum in single precision is off by hundreds of standard errors."""
    x = (1e4 + RANDOM.normal(size=(4, 25_000, 2))).astype(np.float32)
    single, double = draws_of(x), draws_of(x.astype(float))
    found, exact = single.expect(), double.expect()
    assert found.value["x"].dtype == np.float32
    np.testing.assert_allclose(found.value["x"], exact.value["x"], rtol=1e-7)
    np.testing.assert_allclose(found.stderr["x"], exact.stderr["x"], rtol=1e-5)
    assert found.degrees == exact.degrees == (draws_of(x.astype(float) - 1e4).expect().degrees)
    ((one, other),) = zip(single.known(), double.known(), strict=True)
    np.testing.assert_allclose(one.mean, other.mean, rtol=1e-12)
    np.testing.assert_allclose(one.sd, other.sd, rtol=1e-6)
    assert str(single.summary()) == str(double.summary())


def test_an_imaginary_part_is_not_dropped() -> None:
    draws = draws_of(RANDOM.normal(size=(4, 10)))
    with pytest.raises(TypeError, match=r"must return real numbers to average, got complex.*two results"):
        draws.expect(lambda x: jax.lax.complex(x["x"], x["x"]))


def test_draws_without_doubts_that_ended_too_early_are_not_converged() -> None:
    draws = draws_of(RANDOM.normal(size=(4, 1000)))
    assert draws.expect().converged
    early = dataclasses.replace(draws, ended="ended after 1000 draws of each chain, before it was enough")
    assert early.doubts() == []
    assert not early.expect().converged
    assert not early.quantile(0.5).converged
    assert "the run ended after 1000 draws" in str(early.summary())


TRAPS = {  # one chain of 32, as emcee runs them
    "does not move": (lambda x: np.full(x.shape, 0.3), "a chain stands still in x"),
    "hardly moves": (lambda x: 0.3 + 0.01 * x, "chain 5 is not where the others are in x"),
    "is a little elsewhere": (lambda x: x + 0.7, "chain 5 is not where the others are in x"),
    "stops half way": (lambda x: np.where(np.arange(len(x)) < 500, x, x[500]), "chain 5 stands still for 500 of"),
    "stops for a while": (
        lambda x: np.where(np.arange(len(x)) // 150 == 2, x[0], x),
        "chain 5 stands still for 150 of",
    ),
    "is elsewhere": (lambda x: x + 2, "chains disagree on x"),
}


@pytest.mark.parametrize("trap", TRAPS)
def test_one_chain_of_many_that_is_stuck_is_in_the_verdict(trap: str) -> None:
    make, words = TRAPS[trap]
    values = np.random.default_rng(1).normal(size=(32, 1000))
    assert draws_of(values).doubts() == []
    values[5] = make(values[5])
    assert any(doubt.startswith(words) for doubt in draws_of(values).doubts())
    assert not draws_of(values).expect().converged


def autoregressive(correlation: float, chains: int, draws: int) -> np.ndarray:
    """Chains of normal law; its effective draws are (1 - correlation) / (1 + correlation) of all."""
    x = np.random.default_rng(2).normal(size=(draws, chains))
    for now in range(1, draws):
        x[now] = correlation * x[now - 1] + np.sqrt(1 - correlation**2) * x[now]
    return x.T


def test_few_draws_of_the_tails_are_a_doubt_although_those_of_the_middle_suffice() -> None:
    """One draw of twenty is far below, for some time, and the others are independent."""
    rare = autoregressive(0.98, 4, 3000) < stats.norm.ppf(0.05)
    found = draws_of(np.random.default_rng(3).uniform(size=rare.shape) - 3 * rare)
    assert found.ess()["x"] > 400
    assert "effective draws in the tails of x" in found.doubts()[0]


@pytest.mark.slow
@pytest.mark.table
@pytest.mark.parametrize("q", [0.05, 0.5, 0.9])
def test_intervals_of_quantiles_cover_and_those_of_independent_draws_do_not(q: float) -> None:
    """400 runs of 4 chains: covering at 93.5% at least passes but once in a million, covering at 80% never."""
    x = autoregressive(0.8, 1600, 500).reshape(400, 4, 500)
    truth = stats.norm.ppf(q)
    least = stats.binom.ppf(1e-6, 400, 0.935)

    def covered(runs: np.ndarray) -> int:
        found = draws_of(np.moveaxis(runs, 0, 2)).quantile(q)
        return int(np.sum(np.abs(found.value["x"] - truth) < 1.96 * np.asarray(found.stderr["x"])))

    assert covered(x) >= least
    # The same numbers, shuffled before their error is asked for: what a rule says that forgets how they depend.
    shuffled = np.random.default_rng(4).permuted(x.reshape(400, -1), axis=1).reshape(x.shape)
    assert covered(shuffled) < least


def test_a_quantile_has_no_error_bar_where_none_can_be_told() -> None:
    values = np.random.default_rng(5).normal(size=(4, 1000))
    stuck = np.where(np.arange(4)[:, None] == 2, 0.0, values)
    for draws, q, f in [
        (values, 0.9999, None),
        (values, 0.0001, None),
        (stuck, 0.5, None),
        (values, 0.5, lambda x: {"x": x["x"] > 1}),
        (values, 0.95, lambda x: {"x": x["x"] > 1}),
    ]:
        found = draws_of(draws).quantile(q, f)
        assert np.isnan(found.stderr["x"])
        assert not found.converged
        assert "one run" not in str(found)
    with pytest.raises(ValueError, match="q must be"):
        draws_of(values).quantile(1.5)


def test_a_summary_has_a_row_for_each_number_and_says_what_to_try() -> None:
    values = np.random.default_rng(6).normal(size=(4, 1000, 2)) + np.array([0.0, 1.0])
    good = draws_of(values).summary()
    assert [row.name for row in good.rows] == ["x[0]", "x[1]"]
    assert good.rows[1].mean == pytest.approx(values[..., 1].mean())
    assert good.rows[1].error == pytest.approx(float(draws_of(values).expect().stderr["x"][1]))
    assert good.rows[1].high == pytest.approx(float(draws_of(values).quantile(0.95).value["x"][1]))
    head, *rows = str(good).split("\n\n")[0].splitlines()
    assert {len(line) for line in rows} == {len(head)}
    assert "Nothing is found that speaks against these draws." in str(good)
    bad = str(draws_of(values + np.arange(4)[:, None, None], divergent=5).summary(lambda x: x["x"][0]))
    assert bad.count("In doubt: ") == bad.count("    Try: ") == 2
    assert "vt.mcmc.NUTS(acceptance=0.95)" in bad


def test_a_spread_that_differs_is_seen_although_means_agree() -> None:
    """By the folded ranks; split R-hat of the draws themselves does not see it."""
    wide = RANDOM.normal(size=(4, 1000)) * np.array([[1.0], [1.0], [1.0], [3.0]])
    assert draws_of(wide).rhat()["x"] > 1.05


def test_numbers_without_a_mean_have_ranks() -> None:
    cauchy = RANDOM.standard_cauchy(size=(4, 1000))
    assert 3_000 < draws_of(cauchy).ess()["x"] < 5_000


def model(key: jax.Array, y: jax.Array) -> None:
    k1, k2 = jax.random.split(key)
    mu = vt.draw(k1, dist.Normal(0.0, 5.0), name="mu")
    weights = vt.draw(k2, dist.Dirichlet(jnp.ones(3)), name="weights")
    vt.observe(dist.Normal(mu + weights[0], 1.0), y)


def test_arviz_gets_names_warm_up_and_statistics(key: jax.Array) -> None:
    draws = vt.sample(key, vt.condition(model, jnp.ones(3)), num_samples=80, num_warmup=100)
    tree = draws.to_arviz()
    assert set(tree.children) == {"posterior", "sample_stats", "warmup_posterior", "warmup_sample_stats"}
    assert dict(tree["posterior"].sizes) == {"chain": 4, "draw": 80, "weights_dim_0": 3}
    assert np.array_equal(tree["posterior"]["mu"], draws.values["mu"])
    assert np.allclose(tree["posterior"]["weights"].sum("weights_dim_0"), 1)
    assert tree["warmup_posterior"].sizes["draw"] == 100
    assert int(tree["sample_stats"]["diverging"].sum()) == int(draws.divergent.sum())
    assert tree["posterior"].attrs["kernel"] == "NUTS"
    assert tree["posterior"].attrs["seconds_all"] > 0
