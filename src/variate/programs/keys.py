"""Keys that several draws share, which makes draws dependent that a density takes for independent."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from variate.programs.source import short
from variate.programs.staging import Constant, Operand, Operation, Program, Site, scan_parts

# Equal operands make equal results; whatever else makes a key makes a new one.
_REPEATABLE = frozenset(
    """
    broadcast_in_dim copy dynamic_slice gather random_fold_in random_split random_unwrap random_wrap reshape slice
    squeeze transpose
    """.split()
)


class Origin(NamedTuple):
    """How a value came about, equal for equal keys, and the depth of the innermost loop with which it varies."""

    how: Any
    depth: int


class _Use(NamedTuple):
    site: Site
    branches: Mapping[int, int]  # the branch taken of each `cond` around it


def shared_keys(program: Program) -> dict[int, str]:
    """For each draw whose key serves other draws too, why."""
    walk = _Walk()
    walk.body(program, [Origin(("input", place), 0) for place in program.inputs], 0, {})
    return walk.shared


class _Walk:
    """Numbers values by how they came about, as far as keys need it."""

    def __init__(self) -> None:
        self.uses: dict[Any, list[_Use]] = {}
        self.shared: dict[int, str] = {}

    def body(self, program: Program, inputs: Sequence[Origin], depth: int, branches: Mapping[int, int]) -> list[Origin]:
        environment = dict(zip(program.inputs, inputs, strict=True))
        environment.update({place: Origin(("constant", id(value)), 0) for place, value in program.constants})

        def read(operand: Operand) -> Origin:
            if isinstance(operand, Constant):
                return Origin(("number", np.asarray(operand.value).tobytes()), 0)
            return environment[operand]

        for operation in program.operations:
            origins = [read(operand) for operand in operation.inputs]
            if operation.site is not None:
                self.use(operation.site, origins[0], depth, branches)
            for n, body in enumerate(operation.bodies):
                self.nested(operation, n, body, origins, depth, branches)
            environment.update(zip(operation.outputs, _outputs(operation, origins, depth), strict=True))
        return [read(output) for output in program.outputs]

    def nested(
        self,
        operation: Operation,
        n: int,
        body: Program,
        origins: list[Origin],
        depth: int,
        branches: Mapping[int, int],
    ) -> None:
        if not body.sites:
            return
        if operation.name == "cond":
            self.body(body, origins[1:], depth, {**branches, id(operation): n})
        elif operation.name in ("scan", "while"):
            self.body(body, _loop_inputs(operation, n, body, origins, depth + 1), depth + 1, branches)
        else:
            self.body(body, origins, depth, branches)

    def use(self, site: Site, key: Origin, depth: int, branches: Mapping[int, int]) -> None:
        if any(lane.axes[0] is None for lane in site.lanes):
            self.shared[site.index] = "its lanes share one key under vmap: split the key over the lanes"
        if key.depth < depth:
            self.shared[site.index] = "every step of its loop uses one key: split the key over the steps"
        for other in self.uses.setdefault(key.how, []):
            exclusive = any(other.branches.get(cond, branch) != branch for cond, branch in branches.items())
            if not exclusive and other.site.index != site.index:
                for one, two in ((site, other.site), (other.site, site)):
                    reason = f"its key also serves the draw {two.label!r} ({short(two.source)}): split the key"
                    self.shared.setdefault(one.index, reason)
        self.uses[key.how].append(_Use(site, branches))


def _outputs(operation: Operation, origins: list[Origin], depth: int) -> list[Origin]:
    varies = max([origin.depth for origin in origins], default=0)
    repeatable = operation.name in _REPEATABLE and (
        operation.name in ("random_unwrap", "random_wrap") or _is_key(operation.avals[0])
    )
    if repeatable:
        params = tuple(sorted((name, str(value)) for name, value in operation.params.items() if name != "strides"))
        return [Origin((operation.name, params, tuple(origin.how for origin in origins)), varies)]
    # A loop's outputs differ from what went in, whatever that was.
    varies = depth if operation.bodies or not origins else varies
    return [Origin((id(operation), n), varies) for n in range(len(operation.outputs))]


def _is_key(aval: Any) -> bool:
    return jnp.issubdtype(aval.dtype, jax.dtypes.prng_key)


def _loop_inputs(operation: Operation, n: int, body: Program, origins: list[Origin], depth: int) -> list[Origin]:
    params = operation.params
    if operation.name == "scan":
        start, _ = scan_parts(operation)
        consts = origins[:start]
    else:
        first = params["cond_nconsts"]
        consts = origins[:first] if n == 0 else origins[first : first + params["body_nconsts"]]
        start = first + params["body_nconsts"]
    rest = []
    for i, origin in enumerate(origins[start:]):
        place = body.inputs[len(consts) + i]
        # A value that goes round unchanged is a constant of the loop.
        unchanged = n == len(operation.bodies) - 1 and i < len(body.outputs) and body.outputs[i] == place
        rest.append(origin if unchanged else Origin((id(operation), "loop", n, i), depth))
    return [*consts, *rest]
