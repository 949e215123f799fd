"""Keys that a draw shares with other draws or other random numbers, which a density takes for independent of it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from variate.programs.program import Constant, Operand, Operation, Program, Site, scan_parts
from variate.programs.source import position, short

# Equal operands make equal results; whatever else makes a key makes a new one.
_REPEATABLE = frozenset(
    """
    broadcast_in_dim dynamic_slice gather random_fold_in random_split reshape slice squeeze transpose
    """.split()
)
# They make random numbers of a key, or keys that a sampler may make of it too.
_SPENDING = frozenset("random_bits random_fold_in random_gamma random_split".split())
# A copy of a key is the same key.
_ALIASES = frozenset("copy random_clone random_unwrap random_wrap".split())


class Origin(NamedTuple):
    """How a value came about, equal for equal keys, and the depth of the innermost loop with which it varies."""

    how: Any
    depth: int


class _Use(NamedTuple):
    user: Site | Operation
    branches: Mapping[int, int]  # the branch taken of each `cond` around it

    @property
    def words(self) -> str:
        if isinstance(self.user, Site):
            return f"the draw {self.user.label!r} ({short(self.user.source)})"
        return f"`{self.user.name}` at {short(position(self.user.equation, self.user.caller))}"


def shared_keys(program: Program) -> dict[int, str]:
    """For each draw whose key serves something else too, why."""
    walk = _Walk()
    walk.body(program, [Origin(("input", place), 0) for place in program.inputs], 0, {})
    return walk.shared


def _read(environment: Mapping[int, Origin], operand: Operand) -> Origin:
    if isinstance(operand, Constant):
        return Origin(("number", np.asarray(operand.value).tobytes()), 0)
    return environment[operand]


class _Walk:
    """Numbers values by how they came about, as far as keys need it."""

    def __init__(self) -> None:
        self.uses: dict[Any, list[_Use]] = {}
        self.shared: dict[int, str] = {}

    def body(self, program: Program, inputs: Sequence[Origin], depth: int, branches: Mapping[int, int]) -> list[Origin]:
        environment = dict(zip(program.inputs, inputs, strict=True))
        environment.update({place: Origin(("constant", id(value)), 0) for place, value in program.constants})

        for operation in program.operations:
            origins = [_read(environment, operand) for operand in operation.inputs]
            if operation.site is not None:
                self.draw(operation.site, origins[0], depth)
                self.use(_Use(operation.site, branches), origins[0])
            elif operation.name in _SPENDING:
                self.use(_Use(operation, branches), origins[0])
            for n, body in enumerate(operation.bodies):
                self.nested(operation, n, body, origins, depth, branches)
            environment.update(zip(operation.outputs, _outputs(operation, origins, depth), strict=True))
        return [_read(environment, output) for output in program.outputs]

    def nested(
        self,
        operation: Operation,
        n: int,
        body: Program,
        origins: list[Origin],
        depth: int,
        branches: Mapping[int, int],
    ) -> None:
        if not (body.sites or any(_is_key(aval) for aval in operation.operands)):
            return
        if operation.name == "cond":
            self.body(body, origins[1:], depth, {**branches, id(operation): n})
        elif operation.name in ("scan", "while"):
            inputs, changed = _loop_inputs(operation, n, body, origins, depth + 1)
            for place in changed:
                if _is_key(operation.operands[place]):  # spent by the loop, which makes others of it
                    self.use(_Use(operation, branches), origins[place])
            self.body(body, inputs, depth + 1, branches)
        else:
            self.body(body, origins, depth, branches)

    def draw(self, site: Site, key: Origin, depth: int) -> None:
        if any(lane.axes[0] is None for lane in site.lanes):
            self.shared[site.index] = "its lanes share one key under vmap: split the key over the lanes"
        if key.depth < depth:
            self.shared[site.index] = "every step of its loop uses one key: split the key over the steps"

    def use(self, use: _Use, key: Origin) -> None:
        for other in self.uses.setdefault(key.how, []):
            exclusive = any(other.branches.get(cond, branch) != branch for cond, branch in use.branches.items())
            if exclusive or other.user is use.user:
                continue
            for one, two in ((use, other), (other, use)):
                if isinstance(one.user, Site):
                    reason = f"its key also serves {two.words}: split the key"
                    self.shared.setdefault(one.user.index, reason)
        self.uses[key.how].append(use)


def _outputs(operation: Operation, origins: list[Origin], depth: int) -> list[Origin]:
    varies = max([origin.depth for origin in origins], default=0)
    if operation.name in _ALIASES:
        return [origins[0]]
    if operation.name in _REPEATABLE and _is_key(operation.avals[0]):
        params = tuple(sorted((name, str(value)) for name, value in operation.params.items() if name != "strides"))
        return [Origin((operation.name, params, tuple(origin.how for origin in origins)), varies)]
    # A loop's outputs differ from what went in, whatever that was.
    varies = depth if operation.bodies or not origins else varies
    return [Origin((id(operation), n), varies) for n in range(len(operation.outputs))]


def _is_key(aval: Any) -> bool:
    return jnp.issubdtype(aval.dtype, jax.dtypes.prng_key)


def _loop_inputs(
    operation: Operation, n: int, body: Program, origins: list[Origin], depth: int
) -> tuple[list[Origin], list[int]]:
    """What goes into a body of a loop, and which operands of the loop go round and change there."""
    params = operation.params
    if operation.name == "scan":
        start, carried = scan_parts(operation)
        consts = origins[:start]
    else:
        first = params["cond_nconsts"]
        consts = origins[:first] if n == 0 else origins[first : first + params["body_nconsts"]]
        start = first + params["body_nconsts"]
        carried = len(origins) - start
    rest, changed = [], []
    last = n == len(operation.bodies) - 1  # the body that makes what goes round
    for i, origin in enumerate(origins[start:]):
        if last and i < carried and body.outputs[i] == body.inputs[len(consts) + i]:
            rest.append(origin)  # a constant of the loop
        else:
            rest.append(Origin((id(operation), "loop", n, i), depth))
            changed.extend([start + i] * (last and i < carried))
    return [*consts, *rest], changed
