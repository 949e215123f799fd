"""Which operations of JAX carry a derivative, and how smooth they are: tables."""

# Differentiable to every order wherever they are defined.
SMOOTH = frozenset(
    """
    acos acosh add add_any asin asinh atan atanh bessel_i0e bessel_i1e broadcast_in_dim cbrt cholesky complex
    concatenate conj conv_general_dilated convert_element_type copy copy_p cos cosh cumlogsumexp cumprod cumsum
    custom_linear_solve device_put digamma div dot dot_general dynamic_slice dynamic_update_slice erf erf_inv
    erfc exp exp2 expand_dims expm1 fft gather igamma igamma_grad_a igammac imag integer_pow lgamma linear_solve
    log log1p logistic mul mul_add name neg optimization_barrier pad polygamma pow ragged_dot
    real reduce_precision reduce_prod reduce_sum reduce_window_sum regularized_incomplete_beta reshape rev rsqrt
    scatter scatter-add scatter-mul scatter_add scatter_mul sin sinh slice sqrt square
    squeeze stack sub tanh tile transpose triangular_solve xlog1py xlogy zeta
    """.split()
)

# Differentiable once: the derivative jumps, or JAX has no derivative of it (`random_gamma`).
KINKED = frozenset(
    """
    abs clamp cummax cummin max min random_gamma reduce_max reduce_min reduce_window_max reduce_window_min
    scatter-max scatter-min scatter_max scatter_min select_and_scatter_add top_k
    """.split()
)

# Of their results only the first sorted keys, the eigenvalues and the singular values change continuously: what is
# sorted along jumps where two keys pass each other, and a vector may take the other sign.
ORDERED = frozenset("sort eigh svd".split())

# They have a branch cut in the complex plane.
CUT = frozenset("acos acosh asin asinh atan atanh cbrt log log1p pow rsqrt sign sqrt".split())

# They cut a derivative by the user's own word.
CUTS = frozenset({"stop_gradient"})

# New randomness that did not come from a draw.
SOURCES = frozenset({"random_bits", "random_gamma", "rng_bit_generator", "rng_uniform", "threefry2x32"})
