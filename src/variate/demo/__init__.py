"""The main job: what `variate demo` shows on real data."""

from variate.demo.run import run as run
