"""The machines of a Ray cluster, on which every piece is a task."""

import contextlib
import functools
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from jaxtyping import PyTree

from variate.checks import check_positive

from .base import Lost, Work, environment, numbers_of, packed, state_of, unpacked

_TRIES = 3


@dataclass(frozen=True)
class Ray:
    """A Ray cluster, for a `Runner`: the one that is connected to, else the one that is found, else one started here.

    Every piece takes `cpus` of it. Variate and what the function imports have to be installed on its machines. A piece
    whose worker dies is done again, three times at most.

    Raises `ValueError` for `cpus` that are not positive, and `ModuleNotFoundError` where Ray is not installed
    (`pip install 'variate[ray]'`).
    """

    cpus: float | int = 1

    def __post_init__(self) -> None:
        check_positive("cpus", self.cpus)

    @contextlib.contextmanager
    def open(self, pieces: Work) -> Iterator["_Crew"]:
        import ray

        started = not ray.is_initialized()
        if started:
            path = environment()["PYTHONPATH"]
            with warnings.catch_warnings():
                # What Ray forks becomes another program at once, which JAX, that warns of threads, cannot know.
                warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
                ray.init(include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": {"PYTHONPATH": path}})
        try:
            yield _Crew(ray, pieces, self.cpus)
        finally:
            if started:
                ray.shutdown()


class _Crew:
    def __init__(self, ray: Any, pieces: Work, cpus: float | int):
        self.ray, self.like = ray, pieces.like()
        self.payload = ray.put(packed(pieces))
        self.ahead = 2 * max(int(ray.cluster_resources().get("CPU", 1) / cpus), 1)
        self.task = ray.remote(num_cpus=cpus, max_retries=_TRIES - 1)(_do)

    def submit(self, order: Any) -> Callable[[], PyTree]:
        answer = self.task.remote(self.payload, order)

        def wait() -> PyTree:
            try:
                return state_of(self.ray.get(answer), self.like)
            except self.ray.exceptions.RayError as error:
                raise Lost(f"piece {order} was lost: {error}") from error

        return wait


def _do(payload: bytes, order: Any) -> Any:
    return numbers_of(_loaded(payload).piece(order))


@functools.lru_cache(maxsize=1)
def _loaded(payload: bytes) -> Work:
    return unpacked(payload)
