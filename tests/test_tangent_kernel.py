"""Kernels against autograd, exact averages and other quadratures; linear training.

The structured kernel is compared with explicit gradients of torch, the infinite-width
one with recursions that take their averages from the literature or from Gauss-Hermite
nodes, and with the mean over many narrow networks, which is exact for one hidden layer.
Closed forms of linear training meet plain iteration and an ODE solver.
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad, solve_ivp
from scipy.special import erf

from fpbook import memory
from fpbook import tangent_kernel as module
from fpbook.networks import ACTIVATIONS, PARAMETRIZATIONS, jacobian, mlp
from fpbook.scaling import slope
from fpbook.tangent_kernel import (
    COPIES_OF_A_JACOBIAN,
    empirical,
    empirical_of,
    infinite_width,
    linear_dynamics,
    linear_sgd,
    sgd_schedule,
)
from fpbook.validation import require_snapshots

# A few hundred float64 operations on numbers of order one.
ROUNDING = 1e-12

seeds = st.integers(0, 2**32 - 1)


def points(n=4, seed=0, dim=3):
    return np.random.default_rng(seed).normal(size=(n, dim))


def assert_close(actual, expected, tolerance=ROUNDING):
    """Compare relative to the largest number expected."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    scale = np.abs(expected).max()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * scale)


def make(depth=2, activation="erf", seed=0, parametrization="ntk", **options):
    settled = {"scale": 0.7, "sigma_w": 1.3, "sigma_b": 0.4} | options
    return mlp(5, depth, activation, 3, seed, parametrization, **settled)


every_kind = pytest.mark.parametrize("parametrization", PARAMETRIZATIONS)
every_activation = pytest.mark.parametrize("activation", ACTIVATIONS)
every_depth = pytest.mark.parametrize("depth", [1, 2, 3])


# --- kernels of networks ------------------------------------------------------------


def gradients(network, theta, x):
    """Explicit Jacobian of one network by autograd, shape (n, P)."""
    tensor = torch.as_tensor(x)
    return torch.autograd.functional.jacobian(lambda p: network(p, tensor), theta)


@every_kind
@every_activation
@every_depth
def test_structured_kernels_are_gram_matrices_of_gradients(
    depth, activation, parametrization
):
    network = make(depth, activation, [1, 2, 3], parametrization)
    x1, x2 = points(4), points(2, seed=1)
    square = empirical(network, network.params, x1)
    oblong = empirical(network, network.params, x1, x2)
    assert square.shape == (3, 4, 4)
    assert oblong.shape == (3, 4, 2)
    for row, theta in enumerate(network.params):
        J1, J2 = gradients(network, theta, x1), gradients(network, theta, x2)
        assert_close(square[row], J1 @ J1.T, 1e-10)
        assert_close(oblong[row], J1 @ J2.T, 1e-10)
        assert_close(empirical(network, theta, x1), square[row])
        assert_close(empirical(network, theta, x1, x2), oblong[row])


def test_kernels_of_the_parametrisations_have_known_factors():
    # Same normals: the mean-field kernel is the ntk one over n; the standard one weighs
    # each layer's gradients by n_in / sigma_w^2 and 1 / sigma_b^2.
    ntk, mean_field, standard = (
        make(2, "gelu", 5, kind) for kind in ("ntk", "mean_field", "standard")
    )
    x = points()
    kernel = empirical(ntk, ntk.params, x)
    assert_close(empirical(mean_field, mean_field.params, x), kernel / 5)
    assert_close(empirical(make(2, "gelu", 5, scale=2.1), ntk.params, x), 9 * kernel)
    J = jacobian(ntk, ntk.params, x)
    weights = torch.ones_like(ntk.params)
    for layer, n_in in zip(ntk.layers(weights), (3, 5, 5), strict=True):
        layer.weight.fill_(n_in / 1.3**2)
        layer.bias.fill_(1 / 0.4**2)
    assert_close(empirical(standard, standard.params, x), (J * weights) @ J.T)


def test_kernels_keep_the_precision_of_the_parameters():
    network, x = make(), points()
    single = empirical(network, network.params.float(), x)
    assert single.dtype == torch.float32
    # Single precision keeps 6e-8 per operation.
    assert_close(single, empirical(network, network.params, x), 1e-5)


def test_kernels_that_cannot_be_are_refused():
    network, x = make(), points()
    theta = network.params
    for bad in (theta[1:], theta[:0], theta[0]):
        with pytest.raises(ValueError, match=r"params must have shape \(..., 56\)"):
            empirical(network, bad, x)
    for arguments in ((x[:, :2],), (x, x[:, :2]), (x[:0],), (x, x[0])):
        with pytest.raises(ValueError, match=r"x[12] must have shape \(n, 3\) with"):
            empirical(network, theta, *arguments)
    for arguments in ((x * np.nan,), (x, x * np.inf)):
        with pytest.raises(ValueError, match=r"x[12] must be finite"):
            empirical(network, theta, *arguments)
    # Values of three relu layers of 1e120 each overflow, those of erf do not.
    with pytest.raises(ValueError, match="params must be finite and not overflow"):
        empirical(make(activation="relu"), theta * 1e120, x)
    with pytest.raises(ValueError, match="params must be finite, of a size up to"):
        empirical(network, theta * np.nan, x)


def test_kernels_without_the_memory_for_them_are_refused(monkeypatch, tmp_path):
    network, x = make(), points()
    theta = network.params
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text("1e3")
    (tmp_path / "memory.current").write_text("0")
    # One point needs 3 arrays of 2 layers of 5 neurons, 264 bytes; four do not fit.
    message = r"the tangent kernel needs about .* GB, available are 1e-06"
    with pytest.raises(MemoryError, match=message):
        empirical(network, theta, x)
    empirical(network, theta, x[:1])
    with pytest.raises(MemoryError, match=message):
        empirical(network, torch.stack([theta] * 4), x[:1])
    with pytest.raises(MemoryError, match=message):
        empirical(network, theta, x[:1], x)


# --- kernels of any function --------------------------------------------------------


class Convolution(torch.nn.Module):
    """A small network of another kind, one output per image."""

    def __init__(self):
        super().__init__()
        self.convolve = torch.nn.Conv2d(1, 2, 2)
        self.read = torch.nn.Linear(8, 1)

    def forward(self, images):
        hidden = torch.tanh(self.convolve(images)).flatten(1)
        return self.read(hidden)[:, 0]


def convolution():
    """A function of named parameters, those, and five images."""
    torch.manual_seed(0)
    net = Convolution().double()
    named = {name: p.detach() for name, p in net.named_parameters()}

    def function(params, images):
        return torch.func.functional_call(net, params, (images,))

    images = torch.from_numpy(np.random.default_rng(0).normal(size=(5, 1, 3, 3)))
    return function, named, images


def nested(params, x):
    """A function of a pair of a tensor and a list of tensors."""
    outer, (inner, shift) = params
    return torch.sin(x @ inner + shift) @ outer


NESTED = (
    torch.linspace(-1, 1, 4, dtype=torch.float64),
    [
        torch.linspace(0, 2, 12, dtype=torch.float64).reshape(3, 4) ** 2,
        torch.ones(4, dtype=torch.float64),
    ],
)


def explicit_gradients(function, params, x):
    """Rows of the Jacobian, by one backward pass each."""
    leaves, spec = torch.utils._pytree.tree_flatten(params)
    leaves = [leaf.clone().requires_grad_(True) for leaf in leaves]
    outputs = function(torch.utils._pytree.tree_unflatten(leaves, spec), x)
    rows = [torch.autograd.grad(f, leaves, retain_graph=True) for f in outputs]
    return torch.stack([torch.cat([g.flatten() for g in row]) for row in rows])


@pytest.fixture
def forward_passes(monkeypatch):
    """Counts derivatives along a direction: the way by columns needs one per column."""
    counted, jvp = [], torch.func.jvp

    def counting(*arguments, **named):
        counted.append(1)
        return jvp(*arguments, **named)

    monkeypatch.setattr(torch.func, "jvp", counting)
    return counted


@pytest.mark.parametrize("kind", ["network", "module", "nested"])
def test_both_ways_to_a_kernel_agree_with_explicit_gradients(kind, forward_passes):
    if kind == "network":
        function, x = make(), torch.from_numpy(points(5))
        params = function.params
    elif kind == "module":
        function, params, x = convolution()
    else:
        function, params, x = nested, NESTED, torch.from_numpy(points(5))
    first = explicit_gradients(function, params, x[:3])
    second = explicit_gradients(function, params, x[3:])
    gradient = COPIES_OF_A_JACOBIAN * first.shape[1] * 8
    for x2, rows, expected in (
        (None, 3, first @ first.T),
        (x[3:], 5, first @ second.T),
    ):
        fits, too_little = rows * gradient, rows * gradient - 1
        assert_close(empirical_of(function, params, x[:3], x2, fits), expected)
        assert not forward_passes
        by_columns = empirical_of(function, params, x[:3], x2, too_little)
        assert_close(by_columns, expected)
        assert len(forward_passes) == expected.shape[1]
        forward_passes.clear()


def test_single_numbers_count_as_parameters():
    x = torch.from_numpy(points())

    def function(params, inputs):
        return params["scale"] * (inputs @ params["weight"])

    params = {"scale": torch.tensor(2.0).double(), "weight": x[0].clone()}
    outputs = x @ params["weight"]
    expected = torch.outer(outputs, outputs) + 4 * x @ x.T
    assert_close(empirical_of(function, params, x), expected)
    assert_close(empirical_of(function, params, x, memory=150), expected)


def test_half_of_the_available_memory_is_used(monkeypatch, forward_passes):
    network, x = make(), torch.from_numpy(points())
    kernel = empirical(network, network.params, x)
    needed = COPIES_OF_A_JACOBIAN * 4 * 56 * 8
    for available, columns in ((2 * needed, 0), (2 * needed - 2, 4)):
        monkeypatch.setattr(module, "available_memory", lambda a=available: a)
        assert_close(empirical_of(network, network.params, x), kernel)
        assert len(forward_passes) == columns


def test_a_single_gradient_has_to_fit():
    network, x = make(), torch.from_numpy(points())
    needed = COPIES_OF_A_JACOBIAN * 56 * 8
    message = "one gradient with its copies needs about .* GB, available are"
    with pytest.raises(MemoryError, match=message):
        empirical_of(network, network.params, x, memory=needed - 1)
    assert empirical_of(network, network.params, x, memory=needed).shape == (4, 4)


def test_functions_have_one_number_per_input():
    x = torch.from_numpy(points())
    weight = torch.ones(3, 2, dtype=torch.float64)
    for bad in (lambda p, y: y @ p, lambda p, y: (y @ p).sum()):
        message = r"function must return shape \(4,\) for 4 inputs x1, got \("
        with pytest.raises(ValueError, match=message):
            empirical_of(bad, weight, x)
    for limit in (1e9, COPIES_OF_A_JACOBIAN * 6 * 8):
        with pytest.raises(ValueError, match="x1 must be real and finite"):
            empirical_of(lambda p, y: (y @ p)[:, 0], weight, x * np.nan, memory=limit)
        # The slope of the root is infinite at 0.
        with pytest.raises(ValueError, match="params must be finite and not overflow"):
            empirical_of(lambda p, y: (y @ p.sqrt())[:, 0], 0 * weight, x, memory=limit)


# --- the limit of infinite width ----------------------------------------------------


def gauss_hermite(activation, nodes=180):
    """Averages over pairs of normal variables by Gauss-Hermite nodes."""
    z, weights = np.polynomial.hermite_e.hermegauss(nodes)
    weights = weights / weights.sum()
    function, derivative = ACTIVATIONS[activation]

    def averages(s, q1, q2):
        u = np.sqrt(q1) * z
        v = s / np.sqrt(q1) * z[:, None] + np.sqrt(max(q2 - s**2 / q1, 0)) * z
        found = []
        for f in (function, derivative):
            on_u, on_v = (f(torch.from_numpy(a)).numpy() for a in (u, v))
            found.append(weights @ (on_u * (on_v @ weights)))
        return found

    return averages


def arc_cosine(s, q1, q2):
    """Averages of relu over angles of a plane: E r^2 = 2 for a normal radius."""
    norm = math.sqrt(q1 * q2)
    angle = math.acos(min(s / norm, 1.0))
    # Both are positive for directions in an arc of length pi - angle.
    ends = angle - math.pi / 2, math.pi / 2
    product = quad(lambda a: math.cos(a) * math.cos(a - angle), *ends)[0] / math.pi
    return norm * product, (math.pi - angle) / (2 * math.pi)


LITERATURE = {
    "erf": gauss_hermite("erf"),
    "tanh": gauss_hermite("tanh"),
    "gelu": gauss_hermite("gelu"),
    "relu": arc_cosine,
}


def kernel_of_a_pair(x, y, depth, averages, sigma_w, sigma_b):
    """The recursion of Jacot et al. (2018) for numbers."""

    def covariance(a, b):
        return sigma_w**2 * (a @ b) / len(a) + sigma_b**2

    s, q1, q2 = covariance(x, y), covariance(x, x), covariance(y, y)
    kernel = s
    for _ in range(depth):
        product, slopes = averages(s, q1, q2)
        q1, q2 = (sigma_w**2 * averages(q, q, q)[0] + sigma_b**2 for q in (q1, q2))
        s = sigma_w**2 * product + sigma_b**2
        kernel = s + sigma_w**2 * slopes * kernel
    return kernel


@every_activation
@every_depth
def test_infinite_kernels_are_those_of_independent_averages(activation, depth):
    x1, x2 = points(3), points(2, seed=1)
    x2[1] = -x1[0]
    sigmas = {"sigma_w": 1.2, "sigma_b": 0.3}
    options = {"depth": depth, "activation": activation}
    found = infinite_width(x1, x2, **options, **sigmas)
    averages = LITERATURE[activation]
    expected = [
        [kernel_of_a_pair(x, y, depth, averages, **sigmas) for y in x2] for x in x1
    ]
    # The expansion may leave out 1e-10 of a mean square, on each layer.
    assert_close(found, expected, 1e-10)
    # At coinciding inputs rounding of the cosine by 1e-16 moves the angle by 1e-8.
    diagonal = np.diag(infinite_width(x1, None, **options, **sigmas))
    same = [kernel_of_a_pair(x, x, depth, averages, **sigmas) for x in x1]
    assert_close(diagonal, same, 1e-7 if activation == "relu" else 1e-10)


def test_expansions_find_the_closed_forms():
    # The expansion that serves tanh, run with the error function.
    expansion = module._expansion(
        erf, lambda u: 2 / math.sqrt(math.pi) * np.exp(-(u**2))
    )
    rng = np.random.default_rng(0)
    q1, q2 = rng.uniform(0.1, 4, size=(2, 20))
    s = rng.uniform(-1, 1, size=20) * np.sqrt(q1 * q2)
    s[:2] = np.sqrt(q1 * q2)[:2] * [1, -1]
    found, expected = expansion(s, q1, q2), module._erf_averages(s, q1, q2)
    for one, other in zip(found, expected, strict=True):
        # It may leave out 1e-10.
        assert_close(one, other, 1e-10)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_averages_of_slopes_are_slopes_of_averages(activation):
    # Price's theorem: d E f(u) f(v) / ds = E f'(u) f'(v) at fixed variances.
    averages = module._AVERAGES[activation]
    q1, q2 = np.array([0.7, 1.5, 2.0]), np.array([1.1, 0.4, 2.0])
    s, h = np.array([0.3, -0.5, 1.2]), 2e-3
    far, near = (
        averages(s + k * h, q1, q2)[0] - averages(s - k * h, q1, q2)[0] for k in (2, 1)
    )
    # Differences of fourth order: h^4 = 2e-11 and rounding 1e-16 / h.
    slopes = (8 * near - far) / (12 * h)
    assert_close(averages(s, q1, q2)[1], slopes, 1e-9)


@every_activation
@pytest.mark.parametrize("depth", [1, 2])
def test_kernels_of_pairs_do_not_depend_on_company(activation, depth):
    options = {"depth": depth, "activation": activation, "sigma_b": 0.2}
    x1, x2 = points(3), points(2, seed=1)
    together = infinite_width(np.concatenate([x1, x2]), None, **options)
    # The expansion may stop at another length, where it is as good.
    assert_close(infinite_width(x1, x2, **options), together[:3, 3:], 1e-10)
    assert_close(infinite_width(x2, x1, **options), together[3:, :3], 1e-10)
    assert infinite_width(x1[:1].tolist(), None, **options).shape == (1, 1)


@settings(deadline=None, max_examples=20)
@given(
    seed=seeds,
    activation=st.sampled_from(sorted(ACTIVATIONS)),
    depth=st.integers(1, 3),
    sigma_b=st.sampled_from([0.0, 0.5]),
)
def test_infinite_kernels_are_symmetric_and_semidefinite(
    seed, activation, depth, sigma_b
):
    x = points(4, seed)
    x[1] = -x[0]
    x[2] = x[0]
    kernel = infinite_width(
        x, None, depth=depth, activation=activation, sigma_b=sigma_b
    )
    # See above for relu at coinciding inputs.
    assert_close(kernel, kernel.T, 1e-7)
    assert np.linalg.eigvalsh(kernel)[0] > -1e-7 * kernel.max()


@settings(deadline=None, max_examples=20)
@given(
    seed=seeds,
    depth=st.integers(1, 4),
    sigma_w=st.floats(0.2, 4),
    stretch=st.floats(0.2, 4),
)
def test_relu_without_biases_is_homogeneous(seed, depth, sigma_w, stretch):
    # sigma_w^2 enters once per layer, an input once.
    x1, x2 = points(3, seed), points(2, seed + 1)
    options = {"depth": depth, "activation": "relu"}
    kernel = infinite_width(x1, x2, **options)
    scaled = infinite_width(stretch * x1, x2, **options, sigma_w=sigma_w)
    assert_close(scaled, stretch * sigma_w ** (2 * depth + 2) * kernel, 1e-9)


def test_gelu_of_large_fields_is_relu():
    # u Phi(u) differs from max(0, u) where |u| is of order 1: by 1 / q in the averages.
    x1, x2 = 300 * points(3), 300 * points(2, seed=1)
    smooth, kinked = (
        infinite_width(x1, x2, depth=1, activation=activation)
        for activation in ("gelu", "relu")
    )
    assert_close(smooth, kinked, 1e-3)


def test_inputs_at_the_origin_have_the_kernel_of_the_biases():
    # Without biases outputs there are 0 for an odd activation, and 0 gradients as well.
    origin, x = np.zeros((1, 3)), points()
    for activation in ACTIVATIONS:
        options = {"depth": 2, "activation": activation}
        for kernel in (
            infinite_width(origin, None, **options),
            infinite_width(origin, x, **options),
            infinite_width(x, origin, **options),
        ):
            np.testing.assert_allclose(kernel, 0, atol=1e-15)
    with_biases = infinite_width(origin, None, depth=1, activation="relu", sigma_b=2.0)
    # S = 4, E phi^2 = 2, E phi'^2 = 1 / 2: (2 + 4) + 4 / 2.
    assert_close(with_biases, [[8.0]])


@pytest.mark.parametrize("activation", ["erf", "relu", "gelu"])
def test_the_mean_kernel_of_one_hidden_layer_is_the_infinite_one(activation):
    # Exact at any width: gradients of a hidden neuron are independent of the others.
    several = make(1, activation, range(3000), scale=1.0)
    x = points(3)
    kernels = empirical(several, several.params, x).numpy()
    expected = infinite_width(
        x, None, depth=1, activation=activation, sigma_w=1.3, sigma_b=0.4
    )
    error = kernels.std(axis=0) / math.sqrt(3000)
    assert np.abs((kernels.mean(axis=0) - expected) / error).max() < 4
    # Errors of a per cent or two: a factor of sigma_w or a lost bias would show.
    assert error.max() < 0.02 * expected.max()


@pytest.mark.parametrize("activation", ["erf", "relu"])
def test_kernels_approach_the_limit_with_the_root_of_the_width(activation):
    # Sums of n independent terms. 64 networks at each of widths up to 4096 pin the
    # slope to about 0.02.
    x = points(6, seed=3, dim=8)
    x *= math.sqrt(8) / np.linalg.norm(x, axis=1, keepdims=True)
    options = {"sigma_w": 1.3, "sigma_b": 0.2}
    limit = infinite_width(x, None, depth=1, activation=activation, **options)
    widths, errors = [16, 64, 256, 1024, 4096], []
    for width in widths:
        several = mlp(width, 1, activation, 8, range(64), **options)
        gap = empirical(several, several.params, x).numpy() - limit
        errors.append(np.linalg.norm(gap, axis=(1, 2)) / np.linalg.norm(limit))
    assert slope(widths, errors).value == pytest.approx(-0.5, abs=0.06)
    assert np.median(errors[-1]) < 0.05


@pytest.mark.parametrize("sigma_w", [10.0, 100.0, 1000.0])
@pytest.mark.parametrize("x", [[[1.0, 0.0], [0.3, 1.0]], [[1.0, 1.0]]])
def test_variances_that_the_expansion_cannot_resolve_are_told(x, sigma_w):
    # For one input as for several: nodes must not step over the peak of tanh'.
    message = (
        r"1024 terms of the expansion leave out \d.* of the mean square; variances "
        r"reach \d"
    )
    with pytest.raises(FloatingPointError, match=message):
        infinite_width(x, None, depth=1, activation="tanh", sigma_w=sigma_w)


@pytest.mark.parametrize(
    ("name", "bad", "message"),
    [
        ("x1", [1.0, 2.0], r"x1 must have shape \(n, d\), got \(2,\)"),
        ("x1", np.ones((0, 2)), r"x1 must have shape \(n, d\), got \(0, 2\)"),
        ("x1", [[1.0, np.nan]], "x1 must be finite, got NaN or infinity"),
        ("x2", [[1.0, 2.0, 3.0]], r"x2 must have shape \(n, 2\) as x1, got \(1, 3\)"),
        ("x2", [[np.inf, 2.0]], "x2 must be finite, got NaN or infinity"),
        ("depth", 0, "depth must be an integer from 1 to 100000, got 0"),
        ("activation", "sine", r"activation must be one of \(.*\), got 'sine'"),
        ("sigma_w", 0.0, "sigma_w must be finite and > 0, got 0"),
        ("sigma_b", -0.1, "sigma_b must be finite and >= 0, got -0.1"),
    ],
)
def test_infinite_kernels_of_nonsense_are_refused(name, bad, message):
    good = {"x1": np.eye(2), "x2": np.eye(2), "depth": 1, "activation": "erf"}
    infinite_width(**good)
    with pytest.raises(ValueError, match=message):
        infinite_width(**good | {name: bad})


# --- training with a frozen kernel --------------------------------------------------


def joint_problem(seed=0, m=4, n=3, rank=None, lead=()):
    """Kernel, targets, start and test kernel; of 12 features, or fewer."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(*lead, m + n, rank or 12)) / 2
    K = features @ np.swapaxes(features, -1, -2)
    y, f0 = rng.normal(size=(*lead, m)), rng.normal(size=(*lead, m + n))
    return K[..., :m, :m], y, f0, K[..., m:, :m]


def duplicated_problem():
    """An input twice, with different targets: the kernel has rank 3 of 4."""
    x = points(7, seed=2)
    x[1] = x[0]
    K = infinite_width(x, None, depth=1, activation="erf", sigma_b=0.3)
    assert np.linalg.eigvalsh(K[:4, :4])[0] < 1e-14 < 1e-3 < np.linalg.eigvalsh(K)[2]
    rng = np.random.default_rng(3)
    return K[:4, :4], rng.normal(size=4), rng.normal(size=7), K[4:, :4]


PROBLEMS = {
    "full rank": joint_problem(),
    "two features": joint_problem(rank=2),
    "duplicated input": duplicated_problem(),
}
every_problem = pytest.mark.parametrize("problem", PROBLEMS)


def descent_step(f, K, y, k, eta):
    """One step of gradient descent on all points, by the definition."""
    return f - eta * np.concatenate([K, k]) @ (f[: len(y)] - y)


@every_problem
@pytest.mark.parametrize("stability", [0.05, 1.0, 1.9])
def test_discrete_descent_is_the_iterated_recursion(problem, stability):
    K, y, f0, k = PROBLEMS[problem]
    eta = stability / np.linalg.eigvalsh(K)[-1]
    counts, f, expected = [0, 1, 2, 7, 40, 300], f0, []
    for step in range(301):
        if step in counts:
            expected.append(f)
        f = descent_step(f, K, y, k, eta)
    found = linear_dynamics(K, y, f0, steps=counts, learning_rate=eta, test_kernel=k)
    assert_close(found, expected, 1e-10)
    alone = linear_dynamics(K, y, f0[:4], steps=counts, learning_rate=eta)
    assert_close(alone, found[:, :4])


@every_problem
def test_gradient_flow_is_the_solution_of_its_equation(problem):
    K, y, f0, k = PROBLEMS[problem]
    both, times = np.concatenate([K, k]), np.array([0.0, 0.01, 0.3, 2.0, 20.0])
    flow = solve_ivp(
        lambda _, f: -both @ (f[:4] - y),
        (0, 20),
        f0,
        "DOP853",
        times,
        rtol=1e-12,
        atol=1e-13,
    )
    found = linear_dynamics(K, y, f0, times, test_kernel=k)
    assert_close(found, flow.y.T, 1e-10)
    assert_close(linear_dynamics(K, y, f0[:4], times), found[:, :4])


def test_modes_without_an_eigenvalue_move_by_the_time():
    # K = diag(2, lam), and a test point that sees both modes: with lam -> 0 the second
    # pulls it by 3 r t.
    y, f0, k = [1.0, 1.0], [3.0, 2.0, 0.5], [[1.0, 3.0]]
    t = np.array([0.0, 0.5, 4.0])
    modes = -2 * (1 - np.exp(-2 * t)) / 2 - 3 * t
    steps, eta = np.array([0, 1, 40]), 0.1
    discrete = -2 * (1 - 0.8**steps) / 2 - 3 * eta * steps
    for lam in (0.0, 1e-17, 1e-13):
        K = np.diag([2.0, lam])
        found = linear_dynamics(K, y, f0, t, test_kernel=k)
        # lam = 1e-13 changes results by lam t.
        assert_close(found[:, 2], 0.5 + modes, 1e-11)
        found = linear_dynamics(K, y, f0, steps=steps, learning_rate=eta, test_kernel=k)
        assert_close(found[:, 2], 0.5 + discrete, 1e-11)
        assert_close(found[:, 1], [2.0] * 3, 1e-11)


@pytest.mark.parametrize("lam", [1e-10, 1e-6, 1e-3])
def test_slow_modes_keep_their_digits(lam):
    # 1 - (1 - eta lam)^s = s eta lam (1 - (s - 1) eta lam / 2 + ..), over lam.
    s, eta = np.array([1, 3]), 0.5
    found = linear_dynamics(
        np.diag([1.0, lam]),
        [0.0, 0.0],
        [0.0, 1.0, 0.0],
        steps=s,
        learning_rate=eta,
        test_kernel=[[0.0, 1.0]],
    )
    x = eta * lam
    exact = [-eta, -eta * (3 - 3 * x + x**2)]
    np.testing.assert_allclose(found[:, 2], exact, rtol=1e-14)


@settings(deadline=None, max_examples=25)
@given(seed=seeds, rank=st.integers(1, 6), t1=st.floats(0, 5), t2=st.floats(0, 5))
def test_flows_compose_and_superpose(seed, rank, t1, t2):
    K, y, f0, k = joint_problem(seed, rank=rank)

    def flow(start, targets, *times):
        times = np.unique(times)
        return linear_dynamics(K, targets, start, times, test_kernel=k)[-1]

    end = flow(f0, y, t1 + t2)
    assert_close(flow(flow(f0, y, t1), y, t2), end, 1e-10)
    # Linear in start and targets together.
    doubled = flow(3 * f0, 3 * y, t1 + t2)
    assert_close(doubled, 3 * end, 1e-10)
    zero = np.zeros_like(y)
    parts = flow(f0, zero, t1 + t2) + flow(0 * f0, y, t1 + t2)
    np.testing.assert_allclose(parts, end, rtol=0, atol=1e-10 * np.abs(f0).max() * 10)


@every_problem
def test_training_without_end_is_kernel_regression(problem):
    K, y, f0, k = PROBLEMS[problem]
    values = np.linalg.eigvalsh(K)
    smallest = values[values > 1e-10][0]
    # What is left decays as e^-40.
    expected = f0 - np.concatenate([K, k]) @ np.linalg.pinv(K, rcond=1e-10) @ (
        f0[:4] - y
    )
    flow = linear_dynamics(K, y, f0, [40 / smallest], test_kernel=k)
    assert_close(flow[0], expected, 1e-9)
    eta = 1 / values[-1]
    count = math.ceil(40 / (eta * smallest))
    descent = linear_dynamics(K, y, f0, steps=[count], learning_rate=eta, test_kernel=k)
    assert_close(descent[0], expected, 1e-9)


def test_small_steps_follow_the_flow_to_first_order():
    K, y, f0, k = PROBLEMS["full rank"]
    flow = linear_dynamics(K, y, f0, [1.0], test_kernel=k)[0]
    errors = [
        linear_dynamics(K, y, f0, steps=[s], learning_rate=1 / s, test_kernel=k)[0]
        - flow
        for s in (1000, 2000)
    ]
    # Halving the step halves the error, up to the next order of relative size 1 / s.
    assert_close(errors[0], 2 * errors[1], 1e-2)
    assert np.abs(errors[0]).min() > 1e-7


def test_the_largest_learning_rate_swings_for_ever():
    found = linear_dynamics(
        np.diag([4.0, 1.0]),
        [1.0, 0.0],
        [3.0, 0.0],
        steps=[1, 2, 101],
        learning_rate=0.5,
    )
    assert_close(found[:, 0], [-1.0, 3.0, -1.0])


LEADS = {"kernel": 0, "targets": 1, "f0": 2, "test_kernel": 3}


def run(kind, K, y, f0, k):
    """One kind of training, at three times."""
    options = {"test_kernel": k}
    if kind == "flow":
        return linear_dynamics(K, y, f0, [0.0, 0.1, 0.4], **options)
    if kind == "descent":
        options |= {"steps": [0, 1, 5], "learning_rate": 0.05}
        return linear_dynamics(K, y, f0, **options)
    return linear_sgd(K, y, f0, [3, 1, 0], 0.05, snapshots=[0, 1, 3], **options)


every_training = pytest.mark.parametrize("kind", ["flow", "descent", "sgd"])


@every_training
def test_leading_axes_are_separate_problems(kind):
    stacked = joint_problem(seed=4, lead=(2, 3))
    whole = run(kind, *stacked)
    assert whole.shape == (3, 2, 3, 7)
    for i in range(2):
        for j in range(3):
            alone = run(kind, *(array[i, j] for array in stacked))
            assert_close(whole[:, i, j], alone)


@every_training
@pytest.mark.parametrize("only", LEADS)
def test_one_argument_alone_may_have_leading_axes(only, kind):
    # As many problems as times, 3: a mixture of both axes would go unnoticed by shape.
    stacked = joint_problem(seed=5, lead=(3,))

    def chosen(i):
        return [
            array[i] if number == LEADS[only] else array[0]
            for number, array in enumerate(stacked)
        ]

    whole = run(kind, *chosen(slice(None)))
    assert whole.shape == (3, 3, 7)
    for i in range(3):
        assert_close(whole[:, i], run(kind, *chosen(i)))


# --- single samples -----------------------------------------------------------------


@every_problem
def test_single_samples_are_the_explicit_loop(problem):
    K, y, f0, k = PROBLEMS[problem]
    rng = np.random.default_rng(6)
    samples, noise = rng.integers(4, size=50), rng.normal(size=50)
    eta, f, path = 0.7 / K.diagonal().max(), f0.copy(), [f0]
    both = np.concatenate([K, k])
    for j, epsilon in zip(samples, noise, strict=True):
        f = f - eta * both[:, j] * (f[j] - y[j] - epsilon)
        path.append(f)
    options = {"noise": noise, "test_kernel": k}
    found = linear_sgd(K, y, f0, samples, eta, snapshots=range(51), **options)
    assert_close(found, path)
    last = linear_sgd(K, y, f0, samples, eta, **options)
    assert_close(last, path[-1:])
    some = linear_sgd(K, y, f0, samples, eta, snapshots=[0, 7, 20], **options)
    assert_close(some, [path[0], path[7], path[20]])
    quiet = linear_sgd(K, y, f0, samples, eta, test_kernel=k)
    zero = linear_sgd(K, y, f0, samples, eta, noise=np.zeros(50), test_kernel=k)
    np.testing.assert_array_equal(quiet, zero)
    np.testing.assert_array_equal(f0, PROBLEMS[problem][2])


def test_the_mean_of_a_single_step_is_a_step_of_full_descent():
    # Averaged over the four samples, with a fourth of the learning rate.
    K, y, f0, k = PROBLEMS["full rank"]
    eta = 1 / np.linalg.eigvalsh(K)[-1]
    steps = [linear_sgd(K, y, f0, [j], eta, test_kernel=k)[0] for j in range(4)]
    full = linear_dynamics(K, y, f0, steps=[1], learning_rate=eta / 4, test_kernel=k)
    assert_close(np.mean(steps, axis=0), full[0])


def test_noise_on_labels_is_a_shift_of_targets():
    K, y, f0, k = PROBLEMS["full rank"]
    samples = [0, 3, 2, 2, 1]
    noisy = linear_sgd(K, y, f0, samples, 0.1, noise=[0.3] * 5, test_kernel=k)
    assert_close(noisy, linear_sgd(K, y + 0.3, f0, samples, 0.1, test_kernel=k))


def test_schedules_are_returned_checked():
    chosen, epsilon, kept = sgd_schedule(4, [3, 0], None, None)
    np.testing.assert_array_equal(chosen, [3, 0])
    np.testing.assert_array_equal(epsilon, [0.0, 0.0])
    assert kept == [2]
    assert sgd_schedule(4, [3, 0], [1, 2], [0, 2])[2] == [0, 2]
    assert require_snapshots(range(3), 5) == [0, 1, 2]
    assert require_snapshots(np.array([5]), 5) == [5]
    for bad in ([], [3, 2], [1, 1], [-1, 2], [6], [1.5]):
        message = r"snapshots must .*from 0 to 5, got"
        with pytest.raises(ValueError, match=message):
            require_snapshots(bad, 5)


# --- what is refused ----------------------------------------------------------------

K_GOOD = np.array([[2.0, 0.5], [0.5, 1.0]])
FLOW = {
    "kernel": K_GOOD,
    "targets": [1.0, 2.0],
    "f0": [0.0, 0.0, 0.0],
    "times": [0.0, 1.0],
    "test_kernel": [[1.0, 1.0]],
}
DESCENT = {k: v for k, v in FLOW.items() if k != "times"} | {
    "steps": [0, 3],
    "learning_rate": 0.5,
}
SGD = {k: v for k, v in DESCENT.items() if k != "steps"} | {"samples": [0, 1, 0]}

PROBLEM_ERRORS = [
    ({"kernel": [1.0, 2.0]}, r"kernel must have shape \(..., m, m\), got \(2,\)"),
    ({"kernel": np.ones((2, 3))}, r"kernel must have shape .*got \(2, 3\)"),
    ({"kernel": [[1.0, 2.0], [0.0, 1.0]]}, "kernel must be symmetric, got .* by 2"),
    ({"kernel": K_GOOD * np.nan}, "kernel must be finite, of .* not empty, got shape"),
    ({"targets": [1.0]}, r"targets must have shape \(..., 2\), got \(1,\)"),
    ({"targets": [1.0, np.inf]}, "targets must be finite"),
    ({"f0": [0.0, 0.0]}, r"f0 must have shape \(..., 3\): 2 training points and 1 row"),
    ({"f0": [0.0, 0.0, np.nan]}, "f0 must be finite"),
    ({"test_kernel": None}, r"f0 must have shape \(..., 2\): 2 .* and 0 rows"),
    ({"test_kernel": [1.0, 1.0]}, r"test_kernel must have shape .*got \(2,\)"),
    ({"test_kernel": [[1.0]]}, r"test_kernel must have shape \(..., n, 2\), got"),
    ({"test_kernel": [[1.0, np.nan]]}, "test_kernel must be finite"),
    ({"test_kernel": np.ones((0, 2))}, "test_kernel must be finite, of .* not empty"),
    ({"kernel": np.stack([K_GOOD] * 3), "targets": np.ones((2, 2))}, "leading axes"),
]


@pytest.mark.parametrize(("change", "message"), PROBLEM_ERRORS)
def test_problems_that_do_not_fit_are_refused(change, message):
    for function, good in (
        (linear_dynamics, FLOW),
        (linear_dynamics, DESCENT),
        (linear_sgd, SGD),
    ):
        function(**good)
        with pytest.raises(ValueError, match=message):
            function(**good | change)


@pytest.mark.parametrize(
    ("good", "change", "message"),
    [
        (FLOW, {"times": None}, "give exactly one of times and steps"),
        (FLOW, {"steps": [1]}, "give exactly one of times and steps"),
        (FLOW, {"learning_rate": 0.1}, "learning_rate goes with steps, .*got 0.1"),
        (FLOW, {"times": [-1.0]}, "times must be >= 0 and increasing"),
        (FLOW, {"times": [1.0, 1.0]}, "times must be >= 0 and increasing"),
        (FLOW, {"times": [[1.0]]}, "times must be >= 0 and increasing"),
        (DESCENT, {"learning_rate": None}, "learning_rate must be given with steps"),
        (DESCENT, {"learning_rate": 0.0}, "learning_rate must be finite and > 0"),
        (DESCENT, {"steps": [1.5]}, r"steps must be whole numbers.*got \[1.5\]"),
        (DESCENT, {"steps": [3, 2]}, r"steps must be .*got .*3, 2"),
        (DESCENT, {"steps": [-1]}, r"steps must be .*got .*-1"),
    ],
)
def test_times_and_steps_that_make_no_sense_are_refused(good, change, message):
    with pytest.raises(ValueError, match=message):
        linear_dynamics(**good | change)


def test_indefinite_kernels_are_refused_also_beside_large_ones():
    message = "kernel must be positive semidefinite, got an eigenvalue of -1 beside one"
    indefinite = np.diag([2.0, -1.0])
    with pytest.raises(ValueError, match=message):
        linear_dynamics(**FLOW | {"kernel": indefinite})
    # What eigh leaves of a zero is let pass.
    linear_dynamics(**FLOW | {"kernel": np.diag([2.0, -1e-10])})
    stack = np.stack([1e9 * np.eye(2), indefinite])
    with pytest.raises(ValueError, match=message):
        linear_dynamics(**FLOW | {"kernel": stack, "test_kernel": np.ones((2, 1, 2))})


def test_kernels_that_are_not_symmetric_are_refused_also_beside_large_ones():
    stack = np.stack([1e9 * np.eye(2), [[1.0, 1.0], [0.0, 1.0]]])
    with pytest.raises(ValueError, match="kernel must be symmetric"):
        linear_dynamics(**FLOW | {"kernel": stack, "test_kernel": np.ones((2, 1, 2))})


def test_small_kernels_train_also_beside_large_ones():
    stack = np.stack([[[1e15]], [[1.0]]])
    found = linear_dynamics(stack, [[1.0], [1.0]], np.zeros((2, 1)), [1.0])
    assert_close(found[0, :, 0], [1.0, 1 - math.exp(-1)])


def test_unstable_learning_rates_are_refused_with_their_bound():
    largest = np.linalg.eigvalsh(K_GOOD)[-1]
    message = (
        rf"learning_rate must be at most 2 / .* = {2 / largest:.4g} of this kernel"
    )
    linear_dynamics(**DESCENT | {"learning_rate": 1.9999 / largest})
    with pytest.raises(ValueError, match=message):
        linear_dynamics(**DESCENT | {"learning_rate": 2.0001 / largest})
    # For single samples the diagonal counts.
    linear_sgd(**SGD | {"learning_rate": 1.0})
    with pytest.raises(
        ValueError, match=r"at most 2 / 2 = 1 of this kernel, got 1\.001"
    ):
        linear_sgd(**SGD | {"learning_rate": 1.001})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"samples": [0, 2]}, "samples must be indices from 0 to 1, .*got shape"),
        ({"samples": [-1]}, "samples must be indices from 0 to 1"),
        ({"samples": [0.0, 1.0]}, "samples must be indices .* of float64"),
        ({"samples": [[0, 1]]}, r"samples must be indices .*got shape \(1, 2\)"),
        ({"noise": [0.1]}, r"noise must be finite and of the shape \(3,\)"),
        ({"noise": [0.1, np.nan, 0.0]}, "noise must be finite"),
        ({"snapshots": [4]}, "snapshots must be increasing integers from 0 to 3"),
        ({"snapshots": []}, "snapshots must be increasing integers from 0 to 3"),
        ({"learning_rate": -0.1}, "learning_rate must be finite and > 0"),
    ],
)
def test_schedules_that_make_no_sense_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        linear_sgd(**SGD | change)


def test_small_eigenvalues_keep_their_digits():
    # Two inputs that nearly coincide: multiplied by the kernel again, the slow mode,
    # 1e-13 of the other, would be lost in the rounding of the fast one.
    kernel = np.array([[1.0, 1.0 - 2e-13], [1.0 - 2e-13, 1.0]])
    slow = 1 - kernel[0, 1]
    outputs = linear_dynamics(kernel, [0.0, 0.0], [1.0, -1.0], [1.0 / slow])
    np.testing.assert_allclose(outputs[0], [np.exp(-1), -np.exp(-1)], rtol=1e-3)


def test_kernels_in_single_precision_train_too():
    network = mlp(64, 1, "erf", 1, 0, sigma_b=0.3)
    x = np.linspace(-1, 1, 100)[:, None]
    kernels = [
        empirical(network, p, x) for p in (network.params, network.params.float())
    ]
    y, start, times = np.sin(3 * x[:, 0]), np.zeros(100), [0.5, 5.0]
    double, single = (linear_dynamics(K, y, start, times) for K in kernels)
    # Single precision leaves 1e-7 of the largest eigenvalue, times the time.
    np.testing.assert_allclose(single, double, atol=1e-3)


def test_slightly_indefinite_kernels_are_refused():
    problem = (np.diag([2.0, -1e-6]), [1.0, 1.0], [0.0, 0.0])
    message = "kernel must be positive semidefinite"
    with pytest.raises(ValueError, match=message):
        linear_dynamics(*problem, [1.0])
    with pytest.raises(ValueError, match=message):
        linear_sgd(*problem, [0, 1], 0.1)


def test_kernels_that_overflow_are_told():
    x = [[1e160, 0.0], [0.0, 1.0]]
    with pytest.raises(FloatingPointError, match="overflows"):
        infinite_width(x, None, 2, "relu")


def test_parameters_of_a_module_keep_no_graph():
    module, params, x = convolution()
    asking = {name: value.clone().requires_grad_() for name, value in params.items()}
    kernel = empirical_of(module, asking, x)
    assert not kernel.requires_grad
    assert_close(kernel, empirical_of(module, params, x))


@pytest.mark.parametrize("params", [{}, {"a": 1.0}, []])
def test_parameters_have_to_be_tensors(params):
    with pytest.raises(ValueError, match="params must hold at least one tensor"):
        empirical_of(nested, params, torch.ones(2, 3).double())


def test_inputs_without_rows_are_refused():
    network, x = make(), torch.from_numpy(points())
    for arguments, name in (((x[:0],), "x1"), ((x, x[:0]), "x2")):
        with pytest.raises(ValueError, match=f"{name} must have at least one row"):
            empirical_of(network, network.params, *arguments)
