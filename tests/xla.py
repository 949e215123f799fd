"""What XLA is told in tests on a JAX that knows it: to compile without its emitters of fusions, in less time."""

import jax

OLDER = jax.__version_info__ < (0, 11)
FLAGS = "--xla_cpu_use_fusion_emitters=false" if OLDER else ""
