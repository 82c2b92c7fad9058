"""Derivative correlations against autograd, closed forms, and training itself.

Four independent references: derivatives by autograd, nested or as dense tensors; the
closed form of a network with one hidden layer, whose terms are averages over normal
fields; a network that really moves or trains; and the laws in the width. The windows
for slopes are the laws with their corrections at finite width, as seen with seeds other
than these.
"""

import math
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.polynomial import Polynomial
from scipy.integrate import solve_ivp
from scipy.special import erf, eval_hermite, eval_hermitenorm
from torch.autograd.functional import hessian, jacobian
from torch.func import grad, jacfwd, jacrev, jvp

from fpbook import weak_correlations
from fpbook.networks import mlp, pull_back, trace
from fpbook.scaling import over_widths, slope
from fpbook.tangent_kernel import (
    empirical,
    infinite_width,
    linear_dynamics,
    linear_sgd,
)
from fpbook.training import gradient_descent, gradient_flow, sgd
from fpbook.weak_correlations import (
    DIRECTIONS,
    correlation_tensor,
    derivative_norm,
    tangent_hierarchy,
    taylor_coefficients,
)

# Sums of up to some thousand terms in float64, relative to the norm of the result.
ROUNDING = 1e-12

ACTIVATIONS = ("erf", "tanh", "gelu", "relu")
SIGMAS = {"erf": (1.3, 0.2), "tanh": (1.3, 0.2), "gelu": (2**0.5, 0.1)}
SIGMAS["relu"] = SIGMAS["gelu"]

# torch's own forward mode compiles its derivative formulas with torch.jit.
uses_forward_mode = pytest.mark.filterwarnings(
    "ignore:`torch.jit.script` is deprecated"
)

seeds = st.integers(0, 2**32 - 1)
few = settings(deadline=None, max_examples=20)


def on_sphere(count, seed, dimension=8):
    x = np.random.default_rng(seed).standard_normal((count, dimension))
    return x * math.sqrt(dimension) / np.linalg.norm(x, axis=1, keepdims=True)


X, X_TEST = on_sphere(6, 0), on_sphere(4, 1)
X_ALL = np.vstack([X, X_TEST])
Y = np.random.default_rng(3).standard_normal(6)
R = np.random.default_rng(2).standard_normal(6)
R /= np.linalg.norm(R)
RESIDUAL = torch.from_numpy(R)


def network_of(width, depth, activation, seed, **options):
    sigma_w, sigma_b = SIGMAS[activation]
    options = {"input_dim": 8, "sigma_w": sigma_w, "sigma_b": sigma_b, **options}
    return mlp(width, depth, activation, seed=seed, **options)


def relative_error(found, expected):
    """Largest error of a row, relative to the norm of the row."""
    found, expected = torch.as_tensor(found), torch.as_tensor(expected)
    assert found.shape == expected.shape
    error, size = ((a.flatten(1).norm(dim=1)) for a in (found - expected, expected))
    assert torch.all(size > 0)
    return float((error / size).max())


def along(direction, function):
    return lambda theta: jvp(function, (theta,), (direction,))[1]


# --- along one step: against autograd and the closed form ---------------------------


def coefficients_by_forward_mode(network, params, x, residual, points, order):
    direction = pull_back(network, params, x, residual)

    def function(theta):
        return network(theta, points)

    rows = []
    for k in range(order + 1):
        rows.append(function(params) / math.factorial(k))
        function = along(direction, function)
    return torch.stack(rows)


@uses_forward_mode
@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_coefficients_agree_with_nested_forward_mode(activation, depth):
    network = network_of(12, depth, activation, seed=depth)
    problem = (network, network.params, X, RESIDUAL, X_ALL, 4)
    found = taylor_coefficients(*problem)
    expected = coefficients_by_forward_mode(*problem)
    last = depth + 1 if activation == "relu" else 4
    assert relative_error(found[: last + 1], expected[: last + 1]) < ROUNDING
    assert torch.all(found[last + 1 :] == 0)
    assert torch.all(expected[last + 1 :] == 0)


@uses_forward_mode
@pytest.mark.parametrize("parametrization", ["mean_field", "standard"])
def test_coefficients_in_the_other_parametrisations(parametrization):
    options = {"parametrization": parametrization, "scale": 1.7}
    network = network_of(12, 2, "gelu", seed=4, **options)
    problem = (network, network.params, X, RESIDUAL, X_ALL, 3)
    expected = coefficients_by_forward_mode(*problem)
    assert relative_error(taylor_coefficients(*problem), expected) < ROUNDING


def derivatives(activation, u, order):
    """An activation and its derivatives up to the order, shape (order + 1, ...)."""
    found = []
    if activation == "relu":
        found = [np.maximum(u, 0), (u > 0).astype(float)]
        found += [np.zeros_like(u)] * (order - 1)
    elif activation == "tanh":
        polynomial = Polynomial([0, 1])
        for _ in range(order + 1):
            found.append(polynomial(np.tanh(u)))
            polynomial = polynomial.deriv() * Polynomial([1, 0, -1])
    elif activation == "erf":
        bell = 2 / math.sqrt(math.pi) * np.exp(-(u**2))
        found = [erf(u)]
        found += [(-1) ** k * eval_hermite(k, u) * bell for k in range(order)]
    else:
        normal = np.exp(-(u**2) / 2) / math.sqrt(2 * math.pi)
        distribution = [(1 + erf(u / math.sqrt(2))) / 2]
        distribution += [
            (-1) ** k * eval_hermitenorm(k, u) * normal for k in range(order)
        ]
        found = [u * distribution[0]]
        found += [
            u * distribution[k] + k * distribution[k - 1] for k in range(1, order + 1)
        ]
    return np.stack(found[: order + 1])


def covariance(x, z, sigma_w, sigma_b):
    return sigma_w**2 * x @ z.T / x.shape[1] + sigma_b**2


def explicit_coefficients(network, x, r, points, order):
    """Closed form with one hidden layer: readout and fields move along one line."""
    sigma_w, sigma_b = network.sigma_w, network.sigma_b
    m = sigma_w / math.sqrt(network.width)
    first, last = network.layers(network.params)
    a, c = last.weight[0].numpy(), float(last.bias)

    def fields(z):
        drawn = first.weight_multiplier * z @ first.weight.numpy().T
        return drawn + first.bias_multiplier * first.bias.numpy()

    here = derivatives(network.activation, fields(points), order)
    train = derivatives(network.activation, fields(x), 1)
    A = r @ train[0]
    B = covariance(points, x, sigma_w, sigma_b) @ (r[:, None] * train[1])
    rows = []
    for k in range(order + 1):
        term = a * here[k] * (a * B) ** k / math.factorial(k)
        if k:
            term += A * here[k - 1] * (a * B) ** (k - 1) / math.factorial(k - 1)
        rows.append(m ** (k + 1) * term.sum(-1))
    rows[0] += sigma_b * c
    rows[1] += sigma_b**2 * r.sum()
    return np.stack(rows)


# The polynomials in tanh have coefficients that alternate and grow as k!.
@pytest.mark.parametrize(
    ("activation", "order", "tolerance"),
    [
        ("erf", 24, 1e-10),
        ("gelu", 24, 1e-10),
        ("tanh", 9, 1e-9),
        ("relu", 2, ROUNDING),
    ],
)
def test_one_hidden_layer_follows_the_closed_form(activation, order, tolerance):
    network = network_of(200, 1, activation, seed=9)
    # Ten times the usual step, or order 24 would be of size 1e-50.
    r = 10 * R
    residual = torch.from_numpy(r)
    found = taylor_coefficients(
        network, network.params, X, residual, X_ALL, order
    ).numpy()
    expected = explicit_coefficients(network, X, r, X_ALL, order)
    assert relative_error(found, expected) < tolerance


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_relu_is_a_polynomial_until_a_neuron_switches(depth):
    network = network_of(16, depth, "relu", seed=depth)
    order = depth + 4
    problem = (network, network.params, X, RESIDUAL, X_ALL, order)
    f = taylor_coefficients(*problem)
    assert torch.all(f[depth + 2 :] == 0)
    assert torch.all(f[: depth + 2].norm(dim=1) > 0)
    step = 0.01
    moved = network.params + step * pull_back(network, network.params, X, RESIDUAL)
    patterns = [
        torch.cat(trace(network, params, X_ALL).inputs[1:], dim=-1) > 0
        for params in (network.params, moved)
    ]
    stays = (patterns[0] == patterns[1]).all(dim=-1)
    assert stays.sum() >= 8
    powers = step ** torch.arange(order + 1, dtype=torch.float64)
    left = (network(moved, X_ALL) - powers @ f).abs()
    # Outputs of size 1 to a few units of 1e-16; a switch, or a missing term, is larger.
    assert float(left[stays].max()) < 1e-14
    assert float(f[depth + 1].abs().max()) * step ** (depth + 1) > 1e-12
    assert torch.all(left[~stays] > 1e-7)


def test_first_rows_are_the_outputs_and_the_kernel():
    network = network_of(40, 2, "tanh", seed=1)
    f = taylor_coefficients(network, network.params, X, RESIDUAL, X_TEST, 1)
    kernel = empirical(network, network.params, X_TEST, X)
    expected = torch.stack([network(network.params, X_TEST), kernel @ RESIDUAL])
    assert relative_error(f, expected) < ROUNDING
    (alone,) = taylor_coefficients(network, network.params, X, RESIDUAL, X_TEST, 0)
    assert torch.equal(alone, f[0])


@pytest.mark.parametrize("order", [0, 3])
def test_stacks_are_the_single_networks_and_directions(order):
    stack = network_of(20, 2, "erf", seed=[3, 5])
    rs = torch.from_numpy(np.random.default_rng(1).standard_normal((3, 6)))
    shared = taylor_coefficients(stack, stack.params, X, rs[0], X_TEST, order)
    own = taylor_coefficients(stack, stack.params, X, rs[:2], X_TEST, order)
    assert shared.shape == own.shape == (order + 1, 2, 4)
    for i, seed in enumerate((3, 5)):
        one = network_of(20, 2, "erf", seed=seed)

        def single(r, one=one):
            return taylor_coefficients(one, one.params, X, r, X_TEST, order)

        assert relative_error(shared[:, i], single(rs[0])) < ROUNDING
        assert relative_error(own[:, i], single(rs[i])) < ROUNDING
        rows = single(rs)
        assert rows.shape == (order + 1, 3, 4)
        for j, r in enumerate(rs):
            assert relative_error(rows[:, j], single(r)) < ROUNDING


networks = st.builds(
    network_of,
    width=st.integers(3, 24),
    depth=st.integers(1, 3),
    activation=st.sampled_from(["erf", "tanh", "gelu"]),
    seed=seeds,
)


def coefficients(network, params, residual=RESIDUAL, order=5):
    return taylor_coefficients(network, params, X, residual, X_ALL, order)


@few
@given(network=networks)
def test_turning_the_readout_round_changes_the_even_orders(network):
    params = network.params
    turned = params.clone()
    last = network.layers(turned)[-1]
    last.weight.neg_()
    last.bias.neg_()
    signs = torch.tensor([-1, 1, -1, 1, -1, 1], dtype=torch.float64)[:, None]
    expected = signs * coefficients(network, params)
    assert relative_error(coefficients(network, turned), expected) < ROUNDING


@few
@given(network=networks, factor=st.floats(0.2, 5))
def test_coefficients_are_homogeneous_in_the_residual_and_the_scale(network, factor):
    f = coefficients(network, network.params)
    powers = factor ** torch.arange(6.0, dtype=torch.float64)[:, None]
    longer = coefficients(network, network.params, factor * RESIDUAL)
    assert relative_error(longer, powers * f) < ROUNDING
    kind = (network.width, network.depth, network.activation)
    scaled = network_of(*kind, seed=0, scale=factor)
    larger = coefficients(scaled, network.params)
    assert relative_error(larger, factor * powers * f) < ROUNDING


@few
@given(network=networks, share=st.floats(-2, 2))
def test_a_training_point_may_be_split(network, share):
    split = torch.cat([RESIDUAL, share * RESIDUAL[:1]])
    split[0] -= share * RESIDUAL[0]
    points = np.vstack([X, X[:1]])
    found = taylor_coefficients(network, network.params, points, split, X_ALL, 5)
    assert relative_error(found, coefficients(network, network.params)) < ROUNDING


@pytest.mark.parametrize("activation", ["erf", "tanh", "gelu"])
def test_sums_converge_to_the_network_that_moved(activation):
    network = network_of(16, 2, activation, seed=7)
    f = coefficients(network, network.params)
    direction = pull_back(network, network.params, X, RESIDUAL)
    steps = 0.1 * 2.0 ** -np.arange(4)
    for order in range(6):
        errors = []
        for step in steps:
            moved = network(network.params + step * direction, X_ALL)
            series = sum(step**k * f[k] for k in range(order + 1))
            errors.append(float((moved - series).norm()))
        measured = np.polyfit(np.log(steps), np.log(errors), 1)[0]
        # The next order adds a few per cent of steps <= 0.1 to the slope.
        assert abs(measured - (order + 1)) < 0.15


def test_step_sizes_alone_tell_the_correlations():
    # The converse of the series: outputs after steps of nine sizes, both signs, have a
    # polynomial through them; its errors are those of order 9 and beyond.
    network = network_of(256, 2, "erf", seed=11)
    rates = 0.8 * np.cos(np.pi * (np.arange(9) + 0.5) / 9)
    direction = pull_back(network, network.params, X, RESIDUAL)
    moved = [network(network.params - rate * direction, X_ALL) for rate in rates]
    fitted = np.polynomial.polynomial.polyfit(rates, np.stack(moved), 8)
    f = coefficients(network, network.params).numpy()
    for k, tolerance in ((2, 1e-4), (3, 1e-3), (4, 5e-3)):
        assert relative_error(fitted[k : k + 1], (-1) ** k * f[k : k + 1]) < tolerance


def test_order_five_of_a_wide_network_is_what_a_step_leaves():
    network = network_of(4096, 2, "erf", seed=5)
    f = coefficients(network, network.params)
    direction = pull_back(network, network.params, X, RESIDUAL)
    left = network(network.params + direction, X_ALL) - f[:5].sum(0)
    # Order 6 is n^-1 below: 1.4 % at these points.
    assert relative_error(left[None], f[5:]) < 0.03


def test_single_precision_is_for_low_orders():
    network = network_of(64, 2, "erf", seed=2)
    params = network.params.float()
    found = coefficients(network, params, order=3)
    assert found.dtype == torch.float32
    # Order 3 is a sum of fields of size 1 that leaves 1/64: 1e-7 becomes 1e-5.
    expected = coefficients(network, network.params, order=3)
    assert relative_error(found.double(), expected) < 1e-4
    tensor = correlation_tensor(network, params, X[:2], 3)
    assert tensor.dtype == torch.float32


# --- tensors and norms: against dense derivatives -----------------------------------

TINY = on_sphere(5, 8, dimension=3)
TINY_NETWORKS = [("erf", 1), ("tanh", 2), ("gelu", 1), ("gelu", 3), ("relu", 2)]
tiny_networks = pytest.mark.parametrize(("activation", "depth"), TINY_NETWORKS)


@cache
def tiny(activation, depth):
    return network_of(6, depth, activation, seed=13, input_dim=3, scale=1.4)


@cache
def dense(activation, depth):
    """Gradients, Hessians and third derivatives of the outputs at TINY."""
    network, points = tiny(activation, depth), torch.from_numpy(TINY)

    def outputs(theta):
        return network(theta, points)

    theta = network.params
    H = torch.stack([hessian(lambda p, i=i: outputs(p)[i], theta) for i in range(5)])
    return jacobian(outputs, theta), H, jacfwd(jacfwd(jacrev(outputs)))(theta)


@uses_forward_mode
@tiny_networks
def test_tensors_agree_with_dense_derivatives(activation, depth):
    network = tiny(activation, depth)
    g, H, T = dense(activation, depth)
    expected = [
        g @ g.T,
        torch.einsum("ipq,jp,kq->ijk", H, g, g) / 2,
        torch.einsum("ipqs,jp,kq,ls->ijkl", T, g, g, g) / 6,
    ]
    for order, tensor in enumerate(expected, start=1):
        found = correlation_tensor(network, network.params, TINY, order)
        assert relative_error(found, tensor) < ROUNDING


def test_first_order_is_the_tangent_kernel():
    network = network_of(50, 2, "gelu", seed=1)
    found = correlation_tensor(network, network.params, X_ALL, 1)
    assert relative_error(found, empirical(network, network.params, X_ALL)) < ROUNDING


@few
@given(network=networks, order=st.integers(1, 4), seed=seeds)
def test_tensors_are_symmetric_and_contract_to_the_coefficients(network, order, seed):
    points = X_ALL[2:6]
    tensor = correlation_tensor(network, network.params, points, order)
    assert tensor.shape == (4,) * (order + 1)
    for axis in range(1, order):
        assert torch.equal(tensor, tensor.transpose(axis, axis + 1))
    r = torch.from_numpy(np.random.default_rng(seed).standard_normal(4))
    f = taylor_coefficients(network, network.params, points, r, points, order)
    contracted = tensor
    for _ in range(order):
        contracted = contracted @ r
    # Polarisation takes differences of up to 2^order terms of size order^order.
    assert relative_error(contracted[None], f[-1:]) < 1e-9


def test_more_directions_than_are_computed_together():
    network = network_of(8, 1, "erf", seed=1)
    points = X_ALL[:5]
    tensor = correlation_tensor(network, network.params, points, 3)
    assert math.comb(5 + 3, 3) - 1 < DIRECTIONS
    several = correlation_tensor(network, network.params, X_ALL[:7], 3)
    assert math.comb(7 + 3, 3) - 1 > DIRECTIONS
    assert relative_error(several[:5, :5, :5, :5], tensor) < ROUNDING


@uses_forward_mode
@tiny_networks
def test_norms_agree_with_dense_derivatives(activation, depth):
    network = tiny(activation, depth)
    g, H, T = dense(activation, depth)
    bent = torch.einsum("pqs,s->pq", T[0], g[1])
    tensors = {
        (0, 0): network(network.params, TINY[:1]),
        (0, 1): g[0] @ g[1],
        (0, 2): g[1] @ H[0] @ g[2] / 2,
        (0, 3): torch.einsum("pqs,p,q,s->", T[0], g[1], g[2], g[3]) / 6,
        (1, 0): g[0],
        (1, 1): H[0] @ g[1],
        (1, 2): bent @ g[2] / 2,
        (2, 0): torch.linalg.eigvalsh(H[0]) / 2,
        (2, 1): torch.linalg.eigvalsh(bent) / 2,
    }
    for (D, d), tensor in tensors.items():
        found = derivative_norm(network, network.params, TINY[: d + 1], D, d)
        assert found.shape == ()
        assert not found.requires_grad
        norm = tensor.abs().max() if D == 2 else tensor.norm()
        assert float(abs(found - norm) / norm) < ROUNDING, (D, d)


@uses_forward_mode
def test_the_largest_curvature_may_be_negative():
    # Which of both signs is the larger depends on the network: -F exchanges them.
    network = tiny("erf", 1)
    _, H, _ = dense("erf", 1)
    low, *_, high = torch.linalg.eigvalsh(H[0])
    assert low < 0 < high
    assert abs(low + high) > 0.01 * high
    turned = network.params.clone()
    network.layers(turned)[-1].weight.neg_()
    for params in (network.params, turned):
        found = derivative_norm(network, params, TINY[:1], 2, 0)
        assert float(found) == pytest.approx(float(max(-low, high)) / 2, rel=ROUNDING)


def test_norms_of_derivatives_that_vanish():
    # One hidden layer of relu is bilinear almost everywhere: no third derivative.
    network = tiny("relu", 1)
    for D, d in ((0, 3), (1, 2), (2, 1), (2, 3)):
        assert float(derivative_norm(network, network.params, TINY[: d + 1], D, d)) == 0


def test_norms_of_a_stack_are_those_of_its_networks():
    stack = network_of(6, 2, "erf", seed=[3, 5, 8])
    for D, d in ((0, 2), (1, 1), (2, 0)):
        points = X[: d + 1]
        expected = [derivative_norm(stack, one, points, D, d) for one in stack.params]
        found = derivative_norm(stack, stack.params, points, D, d)
        assert torch.equal(found, torch.stack(expected))


@uses_forward_mode
def test_filling_a_free_index_gives_the_next_order():
    # C_{1,d} . G = (d + 1) C_{0,d+1}, with the vector by another route: forward over
    # reverse mode instead of repeated reverse mode.
    network = network_of(8, 2, "erf", seed=6)
    points = X[:4]

    def output(theta):
        return network(theta, points[:1])[0]

    def gradient(point):
        return pull_back(network, network.params, point[None], torch.ones(1).double())

    vector = grad(output)
    for d in (1, 2):
        vector = along(gradient(points[d]), vector)
        free = vector(network.params) / math.factorial(d)
        norm = derivative_norm(network, network.params, points[: d + 1], 1, d)
        assert float(abs(norm - free.norm()) / norm) < ROUNDING
        entry = correlation_tensor(network, network.params, points, d + 1)
        expected = (d + 1) * entry[tuple(range(d + 2))]
        filled = free @ gradient(points[d + 1])
        # Polarisation loses a digit or two.
        assert float(abs(filled - expected) / abs(expected)) < 1e-10


@pytest.mark.parametrize(("D", "d"), [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (2, 1)])
def test_scale_is_an_external_parameter_of_weakness(D, d):
    # At a learning rate that keeps the kernel, eta = eta_0 / alpha^2, the correlation
    # goes as alpha^(1 - D - d): lazy networks are weakly correlated.
    plain, alpha, eta = tiny("gelu", 1), 1.4 * 3.0, 0.7
    lazy = network_of(6, 1, "gelu", seed=13, input_dim=3, scale=alpha * 1.4)
    assert torch.equal(lazy.params, plain.params)

    def measured(network, learning_rate):
        norm = derivative_norm(network, network.params, TINY[: d + 1], D, d)
        return float(norm) * learning_rate ** (D / 2 + d)

    ratio = measured(lazy, eta / alpha**2) / measured(plain, eta)
    assert ratio == pytest.approx(alpha ** (1 - D - d), rel=ROUNDING)


# --- at the start of training: laws in the width ------------------------------------

WIDTHS = [64, 256, 1024, 4096]


def coefficients_over_widths(depth, order, count, seed, chunk, widths):
    def measure(width, drawn):
        network = network_of(width, depth, "erf", seed=drawn)
        return coefficients(network, network.params, order=order).movedim(0, 1)

    return over_widths(measure, widths, count, seed=seed, chunk=chunk)


@pytest.fixture(scope="module")
def shallow():
    """Coefficients of one hidden layer, shape (4 widths, 40 networks, 6, 10)."""
    return coefficients_over_widths(1, 5, 40, 1, 8, WIDTHS)


@pytest.fixture(scope="module")
def deep():
    """Those of two hidden layers; one at a time, as the widest take 134 MB each."""
    return coefficients_over_widths(2, 5, 12, 2, 1, WIDTHS)


def sizes(values, order):
    """Root mean square over the inputs, shape (widths, networks)."""
    return np.sqrt((values[:, :, order] ** 2).mean(-1))


@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("depth", ["shallow", "deep"])
def test_orders_two_and_three_fall_as_the_inverse_width(depth, order, request):
    values = request.getfixturevalue(depth)
    assert -1.15 < slope(WIDTHS, sizes(values, order)).value < -0.8


@pytest.mark.parametrize("order", [4, 5])
@pytest.mark.parametrize("depth", ["shallow", "deep"])
def test_orders_four_and_five_fall_as_its_square(depth, order, request):
    values = request.getfixturevalue(depth)
    assert -2.1 < slope(WIDTHS, sizes(values, order)).value < -1.6


def test_odd_orders_have_a_mean_and_even_orders_none(shallow):
    assert WIDTHS[2] == 1024
    values = shallow[2]
    mean, spread = values.mean(0), values.std(0)
    ratio = np.linalg.norm(mean, axis=1) / np.linalg.norm(spread, axis=1)
    # Order 3: the mean outweighs the scatter by about sqrt(n) / 7. Order 2: one sees
    # the error of a mean over the ensemble.
    assert ratio[3] > 3
    assert ratio[2] < 0.7


@pytest.fixture(scope="module")
def averages():
    """Means over normal fields, and their errors: of f_3, f_5 and the square of f_2."""
    rng = np.random.default_rng(0)
    sigma_w, sigma_b = SIGMAS["erf"]
    weights, biases = rng.standard_normal((200_000, 8)), rng.standard_normal(200_000)
    u = sigma_w / math.sqrt(8) * weights @ X_ALL.T + sigma_b * biases[:, None]
    phi = derivatives("erf", u, 5)
    A = (phi[0, :, :6] @ R)[:, None]
    B = (phi[1, :, :6] * R) @ covariance(X, X_ALL, sigma_w, sigma_b)
    # The readout is standard normal: E a^4 = 3, E a^6 = 15.
    samples = {
        3: sigma_w**4 * (A * phi[2] * B**2 / 2 + phi[3] * B**3 / 2),
        5: sigma_w**6 * (A * phi[4] * B**4 / 8 + phi[5] * B**5 / 8),
        2: sigma_w**6
        * (
            A**2 * phi[1] ** 2 * B**2
            + 3 * A * phi[1] * phi[2] * B**3
            + 15 / 4 * phi[2] ** 2 * B**4
        ),
    }
    root = math.sqrt(len(u))
    return {k: (s.mean(0), s.std(0) / root) for k, s in samples.items()}


def test_constant_of_order_three(shallow, averages):
    expected = averages[3][0]
    # A ratio says nothing where the prediction is next to nothing.
    large = np.abs(expected) > 0.05
    assert large.sum() >= 5
    mean = WIDTHS[3] * shallow[3, :, 3].mean(0)
    assert np.max(np.abs(mean[large] / expected[large] - 1)) < 0.1


def test_constants_hold_within_their_errors_at_any_width(averages):
    # Neurons are independent, so the averages over networks are exact at finite width.
    n, count = 128, 1500
    values = coefficients_over_widths(1, 5, count, 6, 100, [n])[0]
    measured = {3: n * values[:, 3], 5: n**2 * values[:, 5], 2: (n * values[:, 2]) ** 2}
    for k, samples in measured.items():
        expected, error = averages[k]
        both = np.hypot(error, samples.std(0) / math.sqrt(count))
        assert np.max(np.abs(samples.mean(0) - expected) / both) < 4, k


def test_bent_gradient_falls_as_the_root_of_the_width():
    def measure(width, drawn):
        network = network_of(width, 1, "erf", seed=drawn)
        return derivative_norm(network, network.params, X[:2], 1, 1)

    widths = [32, 128, 512, 2048]
    measured = slope(widths, over_widths(measure, widths, 12, seed=3))
    # Four times the scatter of slopes of such ensembles; the next power is 0.5 away.
    assert abs(measured.value + 0.5) < 0.08


# --- training: deviation from the linear network ------------------------------------


@cache
def limit_kernel(activation):
    sigma_w, sigma_b = SIGMAS[activation]
    kind = {"depth": 1, "activation": activation}
    return infinite_width(X, X, sigma_w=sigma_w, sigma_b=sigma_b, **kind)


def supremum_of_deviation(network, params, steps, rate, centred=True):
    """Largest RMS deviation over time; ``rate`` is relative to that of the kernel."""
    largest = np.linalg.eigvalsh(limit_kernel(network.activation))[-1]
    learning_rate = rate / largest / network.output_scale**2
    f0 = network(params, X_ALL).numpy()
    # To train F - F_0 towards y is to train F towards y + F_0.
    y = Y + f0[:, :6] if centred else np.tile(Y, (len(f0), 1))
    run = gradient_descent(network, params, X, y, learning_rate, steps, x_test=X_TEST)
    K = empirical(network, params, X_ALL, X).numpy()
    linear = linear_dynamics(
        K[:, :6],
        y,
        f0,
        steps=np.arange(steps + 1),
        learning_rate=learning_rate,
        test_kernel=K[:, 6:],
    )
    return np.sqrt(((run.outputs - linear) ** 2).mean(-1)).max(0)


def slope_of_deviation(activation, kappa, steps, rate, count, seed):
    def measure(width, drawn):
        network = network_of(width, 1, activation, seed=drawn, scale=width**-kappa)
        return supremum_of_deviation(network, network.params, steps, rate)

    return slope(WIDTHS, over_widths(measure, WIDTHS, count, seed=seed)).value


@pytest.mark.parametrize("kappa", [0, 0.25, 0.5])
def test_deviation_falls_with_the_width_unless_the_scale_does_too(kappa):
    # Outputs of size n^-kappa: 1/2 is the mean-field limit, where the kernel moves and
    # a smaller step is needed.
    measured = slope_of_deviation("erf", kappa, 150, 0.2, 16, seed=4)
    assert abs(measured + 1 - 2 * kappa) < 0.15


def test_mean_field_networks_are_scaled_by_the_root_of_the_width():
    # The sweep above reaches them by hand.
    mean_field = network_of(64, 1, "erf", seed=[1, 2], parametrization="mean_field")
    by_hand = network_of(64, 1, "erf", seed=[1, 2], scale=64**-0.5)
    found, expected = (
        supremum_of_deviation(network, network.params, 20, 0.2)
        for network in (mean_field, by_hand)
    )
    np.testing.assert_array_equal(found, expected)


def doubled(network):
    """(f(theta_1) - f(theta_2)) / sqrt(2) with equal halves, one hidden layer."""
    first, last = network.layers(network.params)
    parts = [
        torch.cat([first.weight, first.weight], dim=-2).flatten(-2),
        torch.cat([first.bias, first.bias], dim=-1),
        torch.cat([last.weight, -last.weight], dim=-1).flatten(-2),
        torch.zeros_like(last.bias),
    ]
    twice = network_of(2 * network.width, 1, "erf", seed=0, scale=network.scale)
    return twice, torch.cat(parts, dim=-1)


def test_doubling_keeps_the_kernel_and_kills_the_even_orders():
    network = network_of(24, 1, "erf", seed=[1, 2, 3])
    twice, params = doubled(network)
    # From two networks by hand, at parameters that have moved apart.
    step = 0.1 * pull_back(twice, params, X, RESIDUAL.expand(3, 6))
    first, last = twice.layers(params + step)
    halves = []
    for half in (slice(0, 24), slice(24, 48)):
        sign = 1 if half.start == 0 else -1
        pieces = [first.weight[:, half].flatten(-2), first.bias[:, half]]
        pieces += [sign * last.weight[..., half].flatten(-2), 0 * last.bias]
        halves.append(network(torch.cat(pieces, -1), X_ALL))
    bias = network.sigma_b * last.bias
    by_hand = (halves[0] - halves[1]) / math.sqrt(2) + bias
    assert relative_error(twice(params + step, X_ALL), by_hand) < ROUNDING
    kernel = empirical(network, network.params, X_ALL)
    assert relative_error(empirical(twice, params, X_ALL), kernel) < ROUNDING
    found = taylor_coefficients(twice, params, X, RESIDUAL, X_ALL, 5).flatten(1)
    single = coefficients(network, network.params).flatten(1)
    assert torch.all(found[::2].norm(dim=1) < ROUNDING * single[::2].norm(dim=1))
    assert torch.all(found[1::2].norm(dim=1) > 0.1 * single[1::2].norm(dim=1))


# Without F_0 subtracted, the outputs at the start grow with the scale.
@pytest.mark.parametrize(
    ("mode", "low", "high"),
    [("subtract", -1.1, -0.9), ("double", -2.15, -1.85), ("none", 0.3, np.inf)],
)
def test_scale_at_fixed_width(mode, low, high):
    scales = [1, 4, 16, 64]
    deviations = []
    for scale in scales:
        drawn = list(range(100, 120))
        network = network_of(64, 1, "erf", seed=drawn, scale=float(scale))
        params = network.params
        if mode == "double":
            network, params = doubled(network)
        deviations.append(
            supremum_of_deviation(network, params, 100, 0.4, mode == "subtract")
        )
    assert low < slope(scales, deviations).value < high


@pytest.mark.parametrize("width", [128, 2048])
@pytest.mark.parametrize("noisy", [False, True])
def test_deviation_of_sgd_stops_growing_if_the_residual_does(width, noisy):
    network = network_of(width, 1, "erf", seed=list(range(300, 316)))
    rate = 0.5 / limit_kernel("erf").diagonal().max()
    rng = np.random.default_rng(7)
    samples = rng.integers(6, size=1000)
    options = {"snapshots": [300, 1000]}
    if noisy:
        options["noise"] = rng.standard_normal(1000)
    run = sgd(network, network.params, X, Y, samples, rate, x_test=X_TEST, **options)
    K = empirical(network, network.params, X_ALL, X).numpy()
    f0 = network(network.params, X_ALL).numpy()
    linear = linear_sgd(K[:, :6], Y, f0, samples, rate, test_kernel=K[:, 6:], **options)
    deviation = np.median(np.sqrt(((run.outputs - linear) ** 2).mean(-1)), axis=1)
    growth = deviation[1] / deviation[0]
    # Seen are 1.0 and above 2.5; without summable residuals it could not stand still.
    assert growth > 1.5 if noisy else growth < 1.15


# --- two parameters: no correlation of outputs, and yet a deviation -----------------

# Largest 2 e^-T (T - 2 (1 - e^-T) + (1 - e^-2T) / 2), at T = 1.9727.
TOY = 0.206171


def toy(c):
    """F = u v at u = sqrt(2) c, v = 0: half of p^2 - q^2 at p = q = c, turned."""
    network = mlp(1, 1, "relu", 1, seed=0)
    # Weight and bias of the neuron, which stays on; then of the readout.
    return network, torch.tensor([math.sqrt(2) * c, 0, 0, 0], dtype=torch.float64)


def test_the_constant_of_the_toy():
    T = np.linspace(0, 8, 100_001)
    square = T - 2 * (1 - np.exp(-T)) + (1 - np.exp(-2 * T)) / 2
    curve = 2 * np.exp(-T) * square
    assert curve.max() == pytest.approx(TOY, abs=1e-6)
    assert T[curve.argmax()] == pytest.approx(1.9727, abs=1e-4)


@pytest.mark.parametrize("c", [2.0, 8.0])
def test_toy_is_correlated_through_a_free_index_only(c):
    network, params = toy(c)
    one, eta = [[1.0]], 1 / (2 * c**2)
    residual = torch.tensor([-1.0], dtype=torch.float64)
    f = taylor_coefficients(network, params, one, residual, one, 5)
    assert float(f[1]) == pytest.approx(-2 * c**2, rel=1e-14)
    assert torch.all(f[[0, 2, 3, 4, 5]] == 0)
    bent = float(derivative_norm(network, params, [[1.0], [1.0]], 1, 1))
    # 1 / sqrt(m) with m = 4 c^4.
    assert eta**1.5 * bent == pytest.approx(1 / (2 * c**2), rel=1e-14)


def test_toy_deviates_by_the_square_of_that_correlation():
    c = 8.0
    m = 4 * c**4
    t = np.linspace(0, 8, 401) / (2 * c**2)
    linear = -np.expm1(-2 * c**2 * t)

    def velocity(_, state):
        p, q = state
        r = (p**2 - q**2) / 2 - 1
        return [-r * p, r * q]

    tolerances = {"rtol": 1e-11, "atol": 1e-12}
    flow = solve_ivp(velocity, (0, t[-1]), [c, c], "DOP853", t, **tolerances)
    outputs = (flow.y[0] ** 2 - flow.y[1] ** 2) / 2
    network, params = toy(c)
    trained = gradient_flow(network, params, [[1.0]], [1.0], t).outputs[:, 0]
    hierarchy = tangent_hierarchy(network, params, [[1.0]], [1.0], None, t, 4)
    np.testing.assert_allclose(hierarchy.linear[:, 0], linear, rtol=0, atol=1e-12)
    # Grid of times 5e-5, order 1/m^2 of the deviation 1e-4.
    for path in (outputs, trained, hierarchy.outputs[:, 0]):
        assert abs(m * np.abs(path - linear).max() - TOY) < 0.001


# --- relu: kinks that derivatives do not see ----------------------------------------


def kinks(r, sign):
    """Mean of sqrt(n) (F - Taylor_2) after one step of the sign, at the inputs X."""
    sigma_w, sigma_b = SIGMAS["relu"]
    K = covariance(X, X, sigma_w, sigma_b)
    rng = np.random.default_rng(5)
    found = []
    for k in range(len(X)):
        others = [j for j in range(len(X)) if j != k]
        # Fields at the other inputs, of neurons that are at their kink at x_k.
        conditional = K - np.outer(K[:, k], K[k]) / K[k, k]
        root = np.linalg.cholesky(conditional[np.ix_(others, others)])
        u = rng.standard_normal((200_000, 5)) @ root.T
        off = ((u > 0) * r[others]) @ K[others, k]
        on = off + r[k] * K[k, k]
        mean = (off * np.abs(off) - on * np.abs(on)).mean()
        # E |a|^3 = 2 sqrt(2 / pi) of the readout, density of the field at 0.
        third, density = (
            2 * math.sqrt(2 / math.pi),
            1 / math.sqrt(2 * math.pi * K[k, k]),
        )
        found.append(sigma_w**3 * sign * density * third / 4 * mean)
    return np.array(found)


def test_a_step_of_relu_crosses_kinks():
    n, count = 16_384, 60
    # Long enough for the mean to stand out from its error, which shrinks as n^-1/4.
    r = math.sqrt(6) * R
    residual = torch.from_numpy(r)

    def measure(width, drawn):
        network = network_of(width, 1, "relu", seed=drawn)
        params = network.params
        f = taylor_coefficients(network, params, X, residual, X_ALL, 2)
        direction = pull_back(network, params, X, residual.expand(len(drawn), 6))
        moved = [network(params + sign * direction, X_ALL) for sign in (-1, 1)]
        return torch.stack([moved[0] - f[0] + f[1] - f[2], moved[1] - f.sum(0)], dim=1)

    left = math.sqrt(n) * over_widths(measure, [n], count, seed=7)[0]
    mean, error = left.mean(0), left.std(0) / math.sqrt(count)
    for row, sign in enumerate((-1, 1)):
        expected = kinks(r, sign)
        assert np.abs(expected / error[row, :6]).max() > 10
        assert np.max(np.abs(mean[row, :6] - expected) / error[row, :6]) < 4
        # The two sides of a kink cancel at inputs that are not trained on.
        assert np.max(np.abs(mean[row, 6:]) / error[row, 6:]) < 4


def test_relu_deviates_by_the_root_of_the_width():
    assert -0.72 < slope_of_deviation("relu", 0, 100, 0.4, 32, seed=5) < -0.45


def test_gelu_deviates_by_the_width_where_relu_does_not():
    # The same protocol; also that of the sweep over scales, with the same window.
    assert abs(slope_of_deviation("gelu", 0, 100, 0.4, 16, seed=5) + 1) < 0.15


# --- the hierarchy of kernels -------------------------------------------------------

TRAIN, TEST = TINY[:3], TINY[3:]
TARGETS = np.array([0.8, -0.5, 1.1])


@uses_forward_mode
@pytest.mark.parametrize(
    ("activation", "depth"), [("erf", 1), ("gelu", 2), ("tanh", 3), ("relu", 2)]
)
def test_kernels_are_derivatives_of_the_tangent_kernel(activation, depth):
    network = network_of(4, depth, activation, seed=5, input_dim=3, scale=1.2)
    points = torch.from_numpy(TINY)

    def gradients(theta):
        return jacrev(lambda params: network(params, points))(theta)

    def kernel(theta):
        g = gradients(theta)
        return g @ g[:3].T

    def third(theta):
        return jacfwd(kernel)(theta) @ gradients(theta)[:3].T

    def fourth(theta):
        return jacfwd(third)(theta) @ gradients(theta)[:3].T

    problem = (network, network.params, TRAIN, TARGETS, TEST, [0.01])
    found = tangent_hierarchy(*problem, 4).kernels
    for K, expected in zip(found, (kernel, third, fourth), strict=True):
        assert relative_error(K, expected(network.params)) < ROUNDING
    for order in (2, 3):
        for fewer, K in zip(
            tangent_hierarchy(*problem, order).kernels, found[: order - 1], strict=True
        ):
            np.testing.assert_array_equal(fewer, K)


def test_order_two_is_the_linear_network():
    network = network_of(4, 2, "erf", seed=5, input_dim=3)
    times = [0.0, 0.3, 2.0]
    found = tangent_hierarchy(
        network, network.params, TRAIN, TARGETS, TEST, times, order=2
    )
    K = empirical(network, network.params, TINY, TRAIN).numpy()
    f0 = network(network.params, TINY).numpy()
    expected = linear_dynamics(K[:3], TARGETS, f0, times, test_kernel=K[3:])
    np.testing.assert_allclose(found.outputs, expected, rtol=0, atol=1e-13)
    np.testing.assert_array_equal(found.linear, found.outputs)


@pytest.mark.parametrize("order", [3, 4])
def test_test_points_change_nothing_on_the_training_points(order):
    network = network_of(4, 2, "erf", seed=5, input_dim=3)
    times = [0.0, 0.3, 2.0]
    problem = (network, network.params, TRAIN, TARGETS)
    both = tangent_hierarchy(*problem, TEST, times, order)
    alone = tangent_hierarchy(*problem, None, times, order)
    assert both.outputs.shape == both.linear.shape == (3, 5)
    assert alone.outputs.shape == alone.linear.shape == (3, 3)
    # Tolerance of the integrator, which sees other errors.
    np.testing.assert_allclose(alone.outputs, both.outputs[:, :3], rtol=0, atol=1e-9)
    start = network(network.params, TINY).numpy()
    np.testing.assert_array_equal(both.outputs[0], start)
    (at_zero,) = tangent_hierarchy(*problem, TEST, [0.0], order).outputs
    np.testing.assert_array_equal(at_zero, start)


@pytest.mark.parametrize("order", [2, 3, 4])
@pytest.mark.parametrize("activation", ["erf", "gelu"])
def test_frozen_at_order_p_errs_at_the_power_p_of_the_time(activation, order):
    network = network_of(6, 2, activation, seed=3, input_dim=3)
    largest = torch.linalg.eigvalsh(empirical(network, network.params, TRAIN))[-1]
    times = 0.01 / float(largest) * 2.0 ** np.arange(4)
    problem = (network, network.params, TRAIN, TARGETS)
    exact = gradient_flow(*problem, times, x_test=TEST, rtol=1e-12, atol=1e-14)
    found = tangent_hierarchy(*problem, TEST, times, order)
    errors = np.linalg.norm(found.outputs - exact.outputs, axis=1)
    measured = np.polyfit(np.log(times), np.log(errors), 1)[0]
    # The next order adds a few per cent of these times to the slope.
    assert abs(measured - order) < 0.1


def test_four_kernels_at_the_start_predict_the_deviation():
    network = network_of(1024, 1, "erf", seed=list(range(8)))
    y, times = np.array([1.0, -1.0, 1.0, -1.0]), np.linspace(0, 1, 11)
    # Tolerances hundreds of times below the errors told apart, 2e-5 and 2e-3.
    options = {"x_test": X_TEST[:3], "rtol": 1e-8, "atol": 1e-10}
    exact = gradient_flow(network, network.params, X[:4], y, times, **options).outputs
    ratios = []
    for row, params in enumerate(network.params):
        found = tangent_hierarchy(network, params, X[:4], y, X_TEST[:3], times, 4)
        fourth, second = (
            np.abs(path - exact[:, row]).max() for path in (found.outputs, found.linear)
        )
        ratios.append(fourth / second)
    # Of order 1/n; 95 % is what the chapter promises.
    assert np.median(ratios) < 0.05


@pytest.mark.parametrize("order", [3, 4])
def test_a_hierarchy_that_runs_away_says_so(order):
    network = network_of(4, 1, "erf", seed=5)
    y = [50.0, -60.0, 80.0, 40.0]
    with pytest.raises(FloatingPointError, match=f"frozen at order {order} stopped"):
        tangent_hierarchy(network, network.params, X[:4], y, None, [0, 5, 50], order)


# --- bad input ----------------------------------------------------------------------


def assert_rejects(function, message, **changes):
    network = network_of(5, 2, "erf", seed=1)
    arguments = {"network": network, "params": network.params}
    arguments |= {
        taylor_coefficients: {"x_train": X, "residual": RESIDUAL, "x": X, "order": 2},
        correlation_tensor: {"x": X[:2], "order": 2},
        derivative_norm: {"x": X[:2], "D": 1, "d": 1},
        tangent_hierarchy: {
            "x_train": X,
            "y": Y,
            "x_test": X_TEST,
            "times": [0.1, 0.2],
            "order": 3,
        },
    }[function]
    function(**arguments)
    with pytest.raises(ValueError, match=message):
        function(**(arguments | changes))


SHORT = torch.ones(3, dtype=torch.float64)
SINGLE = network_of(5, 2, "erf", seed=1).params.float()
STACK = network_of(5, 2, "erf", seed=[1, 2]).params
NOT_FINITE = np.where(np.arange(48).reshape(6, 8) == 7, np.nan, X)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"order": -1}, r"order must be an integer >= 0, got -1"),
        ({"order": 1.5}, r"order must be an integer >= 0, got 1.5"),
        ({"params": SHORT}, r"params must have shape \(\.\.\., 81\).*got \(3,\)"),
        ({"x_train": X[:, :5]}, r"x_train must have shape \(n, 8\).*got \(6, 5\)"),
        ({"x": X[:0]}, r"x must have shape \(n, 8\) with n >= 1, got \(0, 8\)"),
        ({"x": NOT_FINITE}, r"x must be finite"),
        ({"x_train": NOT_FINITE}, r"x_train must be finite"),
        ({"residual": SHORT}, r"residual must .*\(\.\.\., 6\) for .*got \(3,\)"),
        ({"residual": SHORT[0]}, r"residual must .*\(\.\.\., 6\) for .*got \(\)"),
        ({"residual": RESIDUAL / 0}, r"residual must be finite"),
        ({"params": SINGLE, "order": 4}, r"params must be float64 .*float32.*order 4"),
    ],
)
def test_coefficients_reject_bad_input(changes, message):
    assert_rejects(taylor_coefficients, message, **changes)


def test_coefficients_reject_directions_that_do_not_fit_the_stack():
    residual = RESIDUAL.expand(3, 6)
    message = r"residual must .*got \(3, 6\)"
    assert_rejects(taylor_coefficients, message, params=STACK, residual=residual)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"order": 0}, r"order must be an integer from 1 to 20, got 0"),
        ({"order": 2.0}, r"order must be an integer from 1 to 20, got 2.0"),
        ({"params": STACK}, r"params must have shape \(P,\).*got \(2, 81\)"),
        ({"params": SHORT}, r"params must have shape \(\.\.\., 81\).*got \(3,\)"),
        ({"x": X[0]}, r"x must have shape \(n, 8\).*got \(8,\)"),
        ({"x": NOT_FINITE}, r"x must be finite"),
        ({"params": SINGLE, "order": 4}, r"params must be float64 .*float32.*order 4"),
    ],
)
def test_tensors_reject_bad_input(changes, message):
    assert_rejects(correlation_tensor, message, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"D": -1}, r"D must be an integer from 0 to 2, got -1"),
        ({"D": 3}, r"D must be an integer from 0 to 2, got 3"),
        ({"d": -1}, r"d must be an integer >= 0, got -1"),
        ({"d": 2}, r"x must hold 1 \+ d = 3 points.*got 2"),
        ({"x": X[:, :5]}, r"x must have shape \(n, 8\).*got \(6, 5\)"),
        ({"x": NOT_FINITE[:2]}, r"x must be finite"),
        ({"params": SHORT}, r"params must have shape \(\.\.\., 81\).*got \(3,\)"),
    ],
)
def test_norms_reject_bad_input(changes, message):
    assert_rejects(derivative_norm, message, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"order": 1}, r"order must be an integer from 2 to 4, got 1"),
        ({"order": 5}, r"order must be an integer from 2 to 4, got 5"),
        ({"params": STACK}, r"params must have shape \(P,\).*got \(2, 81\)"),
        ({"params": SHORT}, r"params must have shape \(\.\.\., 81\).*got \(3,\)"),
        ({"params": SINGLE}, r"params must be float64.*float32"),
        ({"times": [0.2, 0.1]}, r"times must be >= 0 and increasing"),
        ({"times": [-0.1, 0.1]}, r"times must be >= 0 and increasing"),
        ({"times": []}, r"times must be >= 0 and increasing"),
        ({"y": Y[:5]}, r"y must be finite, of shape \(6,\) as x_train, got \(5,\)"),
        ({"y": [Y, Y]}, r"y must be finite, of shape \(6,\) as x_train, got \(2, 6\)"),
        ({"y": Y * np.nan}, r"y must be finite"),
        ({"x_train": X[:, :5]}, r"x_train must have shape \(n, 8\).*got \(6, 5\)"),
        ({"x_test": X_TEST[0]}, r"x_test must have shape \(n, 8\).*got \(8,\)"),
        ({"x_train": NOT_FINITE}, r"x_train must be finite"),
    ],
)
def test_hierarchy_rejects_bad_input(changes, message):
    assert_rejects(tangent_hierarchy, message, **changes)


def order_three(network, points):
    residual = torch.ones(len(points), dtype=torch.float64)
    return taylor_coefficients(network, network.params, points, residual, points, 3)


def whole_tensor(network, points):
    return correlation_tensor(network, network.params, points, 3)


def four_kernels(network, points):
    return tangent_hierarchy(
        network, network.params, points[:3], TARGETS, points[3:], [1.0], 4
    )


# Bytes: less than the refused object needs, more than what is made before it.
@pytest.mark.parametrize(
    ("function", "width", "what", "available"),
    [
        (order_three, 64, "the series of order 3", 1e4),
        (whole_tensor, 64, "the tensor", 1e3),
        (four_kernels, 512, "the kernel of order 4", 5e7),
    ],
)
def test_what_does_not_fit_is_refused(function, width, what, available, monkeypatch):
    network = network_of(width, 2, "erf", seed=1, input_dim=3)
    function(network, TINY)
    monkeypatch.setattr("fpbook.memory.available_memory", lambda: available)
    with pytest.raises(MemoryError, match=f"{what} needs about .* available are"):
        function(network, TINY)


def test_tensors_of_high_order_do_not_count_permutations():
    # All 12! arrangements of one point are the same.
    network = tiny("erf", 1)
    one = TINY[:1]
    tensor = correlation_tensor(network, network.params, one, 12)
    jets = taylor_coefficients(network, network.params, one, torch.ones(1), one, 12)
    torch.testing.assert_close(tensor.flatten()[0], jets[12, 0], rtol=1e-3, atol=0)


@pytest.mark.parametrize(
    ("scale", "order", "told"),
    [
        (1e120, 3, "at the start must be finite"),
        (1e10, 3, "stopped after time 0"),
        (1e10, 4, "is too stiff"),
    ],
)
def test_a_hierarchy_that_overflows_is_told(scale, order, told, monkeypatch):
    monkeypatch.setattr(weak_correlations, "MOST_EVALUATIONS", 20_000)
    network, points = tiny("gelu", 1), np.asarray(TINY) * scale
    with pytest.raises(FloatingPointError, match=told):
        tangent_hierarchy(
            network, network.params, points, np.ones(5), None, [1.0], order
        )


def test_norms_of_parameters_that_are_not_finite_are_refused():
    network = tiny("erf", 1)
    for wrong in (network.params * math.nan, network.params[:0]):
        with pytest.raises(ValueError, match="params must"):
            derivative_norm(network, wrong, TINY[:1], 2, 0)


def test_lanczos_iterations_that_fail_are_told(monkeypatch):
    def failing(*arguments, **options):
        raise weak_correlations.ArpackError(-9999, {-9999: "no eigenvalue"})

    network = tiny("erf", 1)
    monkeypatch.setattr(weak_correlations, "eigsh", failing)
    with pytest.raises(FloatingPointError, match=r"Lanczos iterations failed: .*-9999"):
        derivative_norm(network, network.params, TINY[:1], 2, 0)
