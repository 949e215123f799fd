"""The commands do what they promise a newcomer, and say what is wrong when they cannot."""

import json
import os
import re
import signal
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import pytest
import scipy.stats
from typer.testing import CliRunner, Result

from variate import cli

PROGRAM = '''"""Programs to explain."""

import jax
import jax.numpy as jnp
import numpyro.distributions as dist

import variate as vt
from beside import SCALE

EXAMPLE = 0.5


def smooth(key, theta=0.3):
    return vt.draw(key, dist.Normal(theta, SCALE), name="place") ** 2


def gate(key, theta, shift):
    z = vt.draw(key, dist.Normal(theta, 1.0), name="height")
    return jnp.where(z > shift, z, 0.0)


def whole(key, count=3):
    return vt.draw(key, dist.Poisson(1.0 * count))


not_a_function = 1
'''


def explain(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, ["explain", *arguments], env={"COLUMNS": "200"})


@pytest.fixture
def program(tmp_path: Path) -> Path:
    (tmp_path / "beside.py").write_text("SCALE = 2.0\n")
    path = tmp_path / "programs_to_explain.py"
    path.write_text(PROGRAM)
    return path


def run(*arguments: str) -> tuple[int, str]:
    """Python in a process of its own, at JAX's defaults: its exit code, and what it prints in 80 columns."""
    environment = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[1]), "COLUMNS": "80"}
    if cache := jax.config.values["jax_compilation_cache_dir"]:
        environment |= {  # the demos share what they compile
            "JAX_ENABLE_COMPILATION_CACHE": "true",
            "JAX_COMPILATION_CACHE_DIR": cache,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
        }
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, text=True, capture_output=True, check=False, timeout=600
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout


SIZES = {
    "demo": (1600, 900),
    "training": (960, 520),
    "digits": (960, 520),
    "rules": (960, 520),
    "discontinuity": (960, 520),
}


@pytest.mark.slow
def test_the_demo(tmp_path: Path) -> None:
    out = tmp_path / "new"
    code, printed = run("-c", "from variate.cli import app; app()", "demo", "--quick", "--seed", "3", "--out", str(out))
    assert code == 0
    check_print(printed)
    for name, size in SIZES.items():
        check_picture((out / f"{name}.png").read_bytes(), size)
    check_page((out / "report.html").read_text(encoding="utf-8"))
    check_results(json.loads((out / "results.json").read_text()))


def check_print(printed: str) -> None:
    for expected in ("before training", "after 16 passes", "BiasedGradientError", "automatic", "new/report.html"):
        assert expected in printed.replace("\n", "")
    assert re.search(r"^complete after \d+ s$", printed, re.MULTILINE)


def check_picture(png: bytes, size: tuple[int, int]) -> None:
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">II", png[16:24]) == size
    assert len(png) > 10_000  # an empty picture of this size has 3,000


def check_page(page: str) -> None:
    assert page.count('<img src="data:image/png;base64,') == len(SIZES) - 1
    assert re.findall(r"""(?:\bsrc|\bhref|\burl)\s*[=(]\s*["']?(?!["']?data:).{20}""", page) == []
    assert re.findall(r"https?://|@import", page) == []
    assert page.count("vt.explain: the gradient is unbiased") == 3


def check_results(results: dict[str, Any]) -> None:
    assert results["status"] == "complete"
    assert results["settings"] == {"seed": 3, "epochs": 16, "num_samples": 512}
    assert {"jax", "variate", "numpyro"} <= set(results["versions"])
    first, *_, last = results["autoencoder"]["held_out_bounds"]
    independent = results["autoencoder"]["held_out_independent_pixels"]
    assert first["value"] + 20 * first["stderr"] < independent < last["value"] - 20 * last["stderr"]
    assert len(results["rules"]["entries"]) == 4
    for entry in results["rules"]["entries"]:
        check_z(entry["z"])
    found = results["discontinuity"]
    at = min(range(len(found["speeds"])), key=lambda i: abs(found["speeds"][i] - found["speed"]))
    check_z([(found["variate"]["value"][at] - found["exact"][at]) / found["variate"]["stderr"][at]])
    assert found["plain_jax"]["value"][at] > 0 > found["exact"][at]


def check_z(deviations: list[float]) -> None:
    """At a false alarm rate of 1e-6, by Bonferroni over the coordinates."""
    assert max(map(abs, deviations)) < scipy.stats.norm.isf(1e-6 / 2 / len(deviations))


INTERRUPTED = """
import signal
import sys
from variate import cli
from variate.demo import training

signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell in the background does not leave
done = training.train


def train(*arguments):
    for i, step in enumerate(done(*arguments)):
        yield step
        if i == 2:
            signal.raise_signal(signal.SIGINT)


training.train = train
cli.app()
"""


@pytest.mark.slow
def test_ctrl_c_keeps_what_there_is(tmp_path: Path) -> None:
    code, printed = run("-c", INTERRUPTED, "demo", "--out", str(tmp_path))
    assert code == 128 + signal.SIGINT
    assert "interrupted while training the autoencoder" in printed
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["status"] == "interrupted while training the autoencoder"
    assert len(results["autoencoder"]["train_bounds"]) == 3
    assert results["rules"] is None
    assert "interrupted while training the autoencoder" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert [path.name for path in tmp_path.glob("*.png")] == ["training.png"]


def test_explain_needs_no_extra() -> None:
    code = f"import sys; from variate import cli; print(set({cli.DEMO_MODULES}) & set(sys.modules))"
    assert run("-c", code) == (0, "set()\n")


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cli, "DEMO_MODULES", ("jax", "a_module_that_is_not_there"))
    result = CliRunner().invoke(cli.app, ["demo", "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert result.stderr == "error: the demo needs a_module_that_is_not_there: pip install 'variate[demo]'\n"
    assert not (tmp_path / "out").exists()


def test_an_unwritable_folder_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = CliRunner().invoke(cli.app, ["demo", "--out", str(tmp_path / "file")])
    assert result.exit_code == 2
    assert "--out: cannot write to" in result.stderr


def test_explain_takes_the_defaults(program: Path) -> None:
    result = explain(f"{program}:smooth", "--num-samples", "16")
    assert result.exit_code == 0, result.output
    assert "place (programs_to_explain.py:14)" in result.stdout
    assert "Pathwise" in result.stdout


def test_explain_evaluates_arguments_in_the_file(program: Path) -> None:
    result = explain(f"{program}:gate", "--args", "EXAMPLE, jnp.zeros(())", "--num-samples", "1", "--seed", "4")
    assert result.exit_code == 0, result.output
    assert "Score" in result.stdout
    assert "`gt`" in result.stdout


def test_explain_differentiates_where_it_is_told(program: Path) -> None:
    result = explain(f"{program}:gate", "--args", "EXAMPLE, 0.0", "--argnums", "2")
    assert "biased: a differentiated argument meets random values in the discontinuity" in " ".join(
        result.stdout.split()
    )


MISTAKES = {
    "no colon": ("FILE", (), "expected FILE.py:FUNCTION"),
    "no file": ("nowhere.py:smooth", (), "no such Python file: nowhere.py"),
    "no function": ("FILE:smoth", (), "has no function 'smoth'; it has gate, smooth, whole"),
    "not a function": ("FILE:not_a_function", (), "has no function 'not_a_function'"),
    "no defaults": ("FILE:gate", (), "gate has no default for theta, shift: give example arguments"),
    "a bad expression": ("FILE:smooth", ("--args", "nothing"), "--args 'nothing' does not evaluate: NameError"),
    "too many": ("FILE:smooth", ("--args", "1.0, 2.0"), "cannot be called with"),
    "an integer": ("FILE:whole", (), "must be real to be differentiated"),
    "a bad argnums": ("FILE:smooth", ("--argnums", "0"), "argnums must be positions from 1 on"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_explained(program: Path, mistake: str) -> None:
    target, arguments, expected = MISTAKES[mistake]
    result = explain(target.replace("FILE", str(program)), *arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert expected in result.stderr
    assert "Traceback" not in result.output


def test_a_file_that_does_not_run_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken_program.py"
    path.write_text("1 / 0\n")
    result = explain(f"{path}:f")
    assert result.exit_code == 2
    assert f"error: {path} does not run: ZeroDivisionError" in result.stderr
