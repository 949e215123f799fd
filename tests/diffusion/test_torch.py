"""Modules of PyTorch as functions: of the real one where it is installed, else of a stand-in for what is used of it."""

import contextlib
import importlib
import importlib.util
import sys
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from variate.diffusion import DDIM, DataPrediction, TorchFunction, VariancePreserving, sample, uniform


class Tensor(np.ndarray):
    def to(self, *where: Any) -> "Tensor":
        return self

    def numel(self) -> int:
        return self.size

    def numpy(self) -> np.ndarray:
        return np.asarray(self)


class Module:
    def __call__(self, *args: Any) -> Any:
        return self.forward(*args)

    def parameters(self) -> Any:
        return iter(())


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> Any:
    if importlib.util.find_spec("torch") is None:
        stand_in = SimpleNamespace(
            nn=SimpleNamespace(Module=Module),
            from_dlpack=lambda x: np.asarray(x).view(Tensor),
            no_grad=contextlib.nullcontext,
            device=str,
        )
        monkeypatch.setitem(sys.modules, "torch", stand_in)
    return importlib.import_module("torch")


def test_a_module_is_asked_for_all_draws_at_once(torch: Any) -> None:
    batches = []

    class Network(torch.nn.Module):
        def forward(self, x: Any, t: Any) -> Any:
            batches.append(tuple(x.shape))
            return 0.5 * x + t[:, None]

    process, function = VariancePreserving(), TorchFunction(Network())
    same = DataPrediction(process, lambda x, t: 0.5 * x + t)
    runs = [
        sample(jax.random.key(0), model, DDIM(), uniform(process, 3), (5, 2)).values
        for model in (DataPrediction(process, function), same)
    ]
    np.testing.assert_allclose(*runs, rtol=1e-12)
    assert batches == [(5, 2)] * 3
    found = function(jnp.ones(2, jnp.float32), 0.25)
    np.testing.assert_allclose(found, [0.75, 0.75])
    assert found.dtype == jnp.float32


def test_what_a_module_cannot_do_is_refused(torch: Any) -> None:
    class Wrong(torch.nn.Module):
        def forward(self, x: Any, t: Any) -> Any:
            return x[:, :1]

    function = TorchFunction(Wrong())
    with pytest.raises(Exception, match=r"must return a batch like its points, of shape \(1, 2\), got \(1, 1\)"):
        function(jnp.ones(2), 0.25)
    with pytest.raises(ValueError, match="JVP"):
        jax.grad(lambda x: function(x, 0.25).sum())(jnp.ones(2))
    with pytest.raises(TypeError, match="module must be a torch"):
        TorchFunction(lambda x, t: x)
