"""What becomes of an axis of a value in each operation of JAX."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from variate.programs.program import Operation


class Link(NamedTuple):
    r"""A digit of an axis of a value tied to a digit of an axis of a draw's elements.

    The value at index $i$ of the axis depends on those elements only in whose index $e$ the digit
    $\lfloor e / \mathrm{place} \rfloor \bmod \mathrm{size}$ is the digit
    $\lfloor i / \mathrm{stride} \rfloor \bmod \mathrm{size}$ of $i$, from the end if `turned`; or one before it if
    `causal` is 1, one after it if -1. Axis $-d$ stands for the steps of the $d$-th scan around, counted from outside.
    """

    axis: int
    element: int
    size: int
    stride: int = 1
    place: int = 1
    causal: int = 0
    turned: bool = False

    def after_steps(self, length: int, reverse: bool = False) -> "tuple[Link, ...]":
        """Of what depends on all indices before its own, or after it, on an axis of this length.

        Only the first digit grows with the index, or falls.
        """
        order = -1 if reverse != self.turned else 1
        known = self.stride * self.size == length and self.causal in (0, order)
        return (self._replace(causal=order),) if known else ()


Passage = Callable[[Link], tuple[Link, ...]]  # a link of an operand as those of the result; none where it is lost


def passage(operation: Operation, operand: int, output: int = 0) -> Passage:
    """How links of one operand pass to one output; what is not understood loses them."""
    name = operation.name
    shape, result = operation.operands[operand].shape, operation.avals[output].shape
    if name in _ELEMENTWISE:
        return along(_same(shape, result) if shape else {})
    if name == "reshape":
        return lambda link: tuple(_reshaped(link, shape, result))
    if name in _CUMULATIVE:
        axis, reverse = operation.params["axis"], operation.params["reverse"]
        return lambda link: (link,) if link.axis != axis else link.after_steps(shape[axis], reverse)
    if name == "rev":  # the digits of an index from the end are its digits from the end
        axes = operation.params["dimensions"]
        return lambda link: (link._replace(turned=not link.turned) if link.axis in axes else link,)
    rule = _RULES.get(name)
    return along(rule(operation.params, operand, shape, result) if rule else {})


def along(axes: Mapping[int, int]) -> Passage:
    """Where axes go; links of others are lost."""
    return lambda link: (link._replace(axis=axes[link.axis]),) if link.axis in axes else ()


def _same(shape: Sequence[int], result: Sequence[int]) -> dict[int, int]:
    """Axes that keep their place and their length."""
    return {axis: axis for axis in range(min(len(shape), len(result))) if shape[axis] == result[axis]}


def _without(axes: Sequence[int], shape: Sequence[int]) -> dict[int, int]:
    rest = [axis for axis in range(len(shape)) if axis not in axes]
    return {axis: place for place, axis in enumerate(rest)}


def _reshaped(link: Link, shape: Sequence[int], result: Sequence[int]) -> Iterator[Link]:
    """The same digit of the flat index, in as many digits as axes of the result share it."""
    start = link.stride * math.prod(shape[link.axis + 1 :])
    end = start * link.size
    for axis, length in enumerate(result) if math.prod(result) else ():
        behind = math.prod(result[axis + 1 :])
        low, high = max(start, behind), min(end, behind * length)
        whole = low % start == low % behind == 0 and end % high == behind * length % high == 0 and high % low == 0
        if whole and (low < high or link.size == length == 1):
            digit = link._replace(axis=axis, size=high // low, stride=low // behind, place=link.place * (low // start))
            if high == end or not link.causal:
                yield digit


def _dot_general(params: Any, operand: int, shape: Sequence[int], result: Sequence[int]) -> dict[int, int]:
    (contracted, batch) = params["dimension_numbers"]
    own, shared = contracted[operand], batch[operand]
    free = [axis for axis in range(len(shape)) if axis not in own and axis not in shared]
    start = len(result) - len(free) if operand else len(shared)
    return {axis: n for n, axis in enumerate(shared)} | {axis: start + n for n, axis in enumerate(free)}


def _gather(params: Any, operand: int, shape: Sequence[int], result: Sequence[int]) -> dict[int, int]:
    numbers = params["dimension_numbers"]
    places = [axis for axis in range(len(result)) if axis not in numbers.offset_dims]
    if operand == 1:  # the indices: their last axis is the index vector
        return dict(zip(range(len(shape) - 1), places, strict=True))
    taken = (*numbers.collapsed_slice_dims, *numbers.operand_batching_dims)
    whole = [axis for axis in range(len(shape)) if axis not in taken]
    kept = dict(zip(whole, numbers.offset_dims, strict=True))
    batched = zip(numbers.operand_batching_dims, numbers.start_indices_batching_dims, strict=True)
    return {a: p for a, p in kept.items() if shape[a] == result[p]} | {a: places[b] for a, b in batched}


def _matrices(params: Any, operand: int, shape: Sequence[int], result: Sequence[int]) -> dict[int, int]:
    """One matrix for each index of the leading axes."""
    return {axis: axis for axis in range(len(shape) - 2)}


Rule = Callable[[Any, int, Sequence[int], Sequence[int]], dict[int, int]]
_RULES: dict[str, Rule] = {
    "broadcast_in_dim": lambda p, i, s, r: {
        axis: place for axis, place in enumerate(p["broadcast_dimensions"]) if s[axis] == r[place]
    },
    "concatenate": lambda p, i, s, r: {axis: axis for axis in range(len(s)) if axis != p["dimension"]},
    "dot_general": _dot_general,
    "dynamic_slice": lambda p, i, s, r: _same(s, r) if i == 0 else {},
    "dynamic_update_slice": lambda p, i, s, r: _same(s, r) if i < 2 else {},
    "gather": _gather,
    "pad": lambda p, i, s, r: {
        axis: axis for axis, padding in enumerate(p["padding_config"]) if i == 0 and tuple(padding) == (0, 0, 0)
    },
    "slice": lambda p, i, s, r: _same(s, r),
    "sort": lambda p, i, s, r: {axis: axis for axis in range(len(s)) if axis != p["dimension"]},
    "squeeze": lambda p, i, s, r: _without(p["dimensions"], s),
    "stack": lambda p, i, s, r: {axis: axis + (axis >= p["axis"]) for axis in range(len(s))},
    "tile": lambda p, i, s, r: {axis: axis for axis, times in enumerate(p["reps"]) if times == 1},
    "transpose": lambda p, i, s, r: {axis: place for place, axis in enumerate(p["permutation"])},
    **dict.fromkeys(
        "argmax argmin reduce_and reduce_max reduce_min reduce_or reduce_prod reduce_sum".split(),
        lambda p, i, s, r: _without([int(axis) for axis in p["axes"]], s),  # of batched ones NumPy's
    ),
    **dict.fromkeys("cholesky triangular_solve eigh svd qr lu".split(), _matrices),
}
_CUMULATIVE = frozenset("cumlogsumexp cummax cummin cumprod cumsum".split())
_ELEMENTWISE = frozenset(
    """
    abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e bessel_i1e cbrt ceil clamp complex conj
    convert_element_type copy copy_p cos cosh digamma div eq erf erf_inv erfc exp exp2 expm1 floor ge gt igamma
    igamma_grad_a igammac imag integer_pow is_finite le lgamma log log1p logistic lt max min mul mul_add name ne neg
    nextafter not or polygamma pow real reduce_precision regularized_incomplete_beta rem round rsqrt select_n
    shift_left shift_right_arithmetic shift_right_logical sign sin sinh sqrt square stop_gradient sub tan tanh xlog1py
    xlogy xor zeta
    """.split()
)
