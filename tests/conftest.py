"""What holds for every test: strict JAX, keys of its own from one seed, fast tests first."""

import gc
import os
import zlib
from collections.abc import Iterator
from typing import Any

import hypothesis
import jax
import jaxtyping
import pytest
import typechecking
from jax.experimental.key_reuse import _core as key_reuse
from xdist.scheduler import LoadFileScheduling
from xla import FLAGS, OLDER

jaxtyping.jaxtyped = typechecking.jaxtyped  # before the package is imported, whose functions it will check

# One thread a process: there is a process for each core. And on two threads jaxlib 0.10 waits for itself forever where
# batches of triangular solves meet, since each blocks a thread of the pool that its parts are to run on.
os.environ["NPROC"] = "1"

# Most of the suite's time is compiling (143 tests: 438 s of processor time with XLA's emitters of fusions, then 286). A
# newer JAX does not know the flag, and without optimizations rounds the same function in two ways.
if OLDER:
    # On level 1 a slow test that took 28 s to compile takes 7, and then runs for 8 s either way. Pages of the
    # documentation, in processes of their own, are optimized as for users.
    os.environ["XLA_FLAGS"] = f"{FLAGS} --xla_backend_optimization_level=1 {os.environ.get('XLA_FLAGS', '')}"

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_debug_key_reuse", True)

# The checker believes that a primitive without a rule consumes its keys, and that `keys[i]` is all of `keys`: it would
# cry wolf at a `vmap` of a `scan` over keys or of a `cond` with one, and at every loop that indexes them.
_MOVED = key_reuse.KeyReuseSignature(key_reuse.Forward(0, 0))
_ANOTHER = key_reuse.KeyReuseSignature(key_reuse.Source(0))
key_reuse.key_reuse_signatures |= {
    jax.lax.transpose_p: _MOVED,
    jax.lax.rev_p: _MOVED,
    jax.lax.select_n_p: _ANOTHER,
    jax.lax.dynamic_slice_p: _ANOTHER,
    jax.lax.gather_p: _ANOTHER,
}

# Derandomised, so a failure on one machine is a failure on all; a first call compiles, so no example has a deadline.
hypothesis.settings.register_profile("variate", derandomize=True, deadline=None)
hypothesis.settings.load_profile("variate")


WIDE = 6  # of so many cases of a wide test one is run, and by a nightly run all


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--key-seed", type=int, default=0, help="give every test other keys (for nightly runs)")
    one_in = f"of each parametrized test one case in so many: without it one in {WIDE} of those that are marked wide"
    parser.addoption("--cases", type=int, help=one_in)
    parser.addoption("--tests", type=int, default=1, help="of all tests one in so many, with its cases")
    parser.addoption("--turn", type=int, default=0, help="which of the cases and tests, where not all are run")


def pytest_configure(config: pytest.Config) -> None:
    # Compiling is most of the suite's time, and a second run needs none of it (32 programs: 78 s, then 14).
    if config.pluginmanager.hasplugin("cacheprovider"):
        jax.config.update("jax_compilation_cache_dir", str(config.cache.mkdir("jax")))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def pytest_report_header(config: pytest.Config) -> str:
    return f"jax {jax.__version__}, --key-seed={config.getoption('--key-seed')}"


def some_cases(number: int | None, items: list[pytest.Item], turn: int) -> list[pytest.Item]:
    """The items without a case, and of those that differ in their cases alone one in `number`, and at least one.

    Without a number one in `WIDE` of those that are marked wide, and all others. In an order of no meaning, or every
    fourth of a table of four kinds would be of one kind.
    """
    groups: dict[str, list[pytest.Item]] = {}
    for item in sorted(items, key=lambda item: zlib.crc32(item.nodeid.encode())):
        groups.setdefault(item.nodeid.partition("[")[0], []).append(item)
    kept: set[pytest.Item] = set()
    for name, same in groups.items():
        one_in = number or (WIDE if same[0].get_closest_marker("wide") else 1)
        kept.update(same[(zlib.crc32(name.encode()) + turn) % min(one_in, len(same)) :: one_in])
    return [item for item in items if item in kept]


def one_test_in(number: int, items: list[pytest.Item], turn: int) -> list[pytest.Item]:
    """The items of one test in `number`: of others at each turn, and of each in `number` turns."""
    return [item for item in items if (zlib.crc32(item.nodeid.partition("[")[0].encode()) + turn) % number == 0]


def in_turn(items: list[pytest.Item], cases: int | None, tests: int, turn: int) -> list[pytest.Item]:
    """What a run has, such that in enough turns each test has had all of its cases, whatever the numbers are."""
    return one_test_in(tests, some_cases(cases, items, turn // tests), turn)


class Files(LoadFileScheduling):
    """Gives a worker a file at a time, but of the documentation a page: pages share nothing, and take half a minute."""

    def _split_scope(self, nodeid: str) -> str:
        return nodeid if "test_the_page" in nodeid else super()._split_scope(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Files:
    return Files(config, log)


# After marks have chosen, or all of a test's kept cases might be among those that they leave out.
@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    cases, tests, turn = (config.getoption(name) for name in ("--cases", "--tests", "--turn"))
    kept = in_turn(items, cases, tests, turn)
    left = set(items) - set(kept)
    config.hook.pytest_deselected(items=[item for item in items if item in left])
    items[:] = sorted(kept, key=lambda item: item.get_closest_marker("slow") is not None)


def pytest_collection_finish() -> None:
    # Modules and tests live to the end: to look for garbage among them after every 700 objects was a twentieth of the
    # time of tests that trace (28 of them: 1.3 s of 24, then 0.5).
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000)


@pytest.fixture(scope="module", autouse=True)
def nothing_compiled_outlives_its_file() -> Iterator[None]:
    """All together it was 5 GiB a process after a dozen files, and the tests of later files took a sixth longer."""
    yield
    jax.clear_caches()


@pytest.fixture(autouse=True)
def optimized_where_it_pays(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What runs for long is (9 tests: 163 s, then 129); what is compiled to run for a moment is not (16: 50 s, 43)."""
    slow, table, long = (request.node.get_closest_marker(name) for name in ("slow", "table", "long"))
    plain = OLDER and long is None and (slow is None or table is not None)
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", str(int(plain)))  # for processes that must compute alike
    jax.config.update("jax_disable_most_optimizations", plain)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture
def key(request: pytest.FixtureRequest) -> jax.Array:
    """A key of this test's own: the same in every run, whatever else runs."""
    seed = jax.random.key(request.config.getoption("--key-seed"))
    return jax.random.fold_in(seed, zlib.crc32(request.node.nodeid.encode()))
