"""Autoencoders against averages over samples and exact laws.

Independent references: the loss of a single sample, averaged by quadrature that is
exact for it; closed forms for normal densities; and the Fokker-Planck equation.
"""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.linalg import expm, solve_continuous_lyapunov
from scipy.special import erf
from scipy.stats import norm

from fpbook import autoencoder
from fpbook.autoencoder import (
    balance_step,
    frozen_hessian,
    matrix_gradient,
    matrix_loss,
    matrix_noise,
    ornstein_uhlenbeck,
    rayleigh,
    rotation_invariant_potential,
    rotation_radii,
    scalar_gradient,
    scalar_loss,
    scalar_minibatch_gradient,
    scalar_noise,
    singular_values,
)
from fpbook.fokker_planck import (
    FokkerPlanck,
    Grid,
    gaussian,
)

# A handful of float64 operations: a few units of 1.1e-16, with a margin of 100.
ROUNDING = 1e-13

ACTIVATIONS = ("linear", "erf", "tanh")
FUNCTIONS = {"linear": lambda z: z, "erf": erf, "tanh": np.tanh}
SLOPES = {
    "linear": np.ones_like,
    "erf": lambda z: 2 / math.sqrt(math.pi) * np.exp(-(z**2)),
    "tanh": lambda z: np.cosh(np.minimum(np.abs(z), 350)) ** -2.0,
}

seeds = st.integers(0, 2**32 - 1)


# --- A1: two weights ----------------------------------------------------------------


def sample_average(w, activation, data_scale, label_noise):
    """Mean loss and gradient, and covariance of the gradient, sample by sample.

    Equal steps in x, against the package's equal steps in log x; the label noise is
    two-valued, which has the same first two moments as a normal one.
    """
    w1, w2 = w
    step = 0.02 / max(1.0, abs(w1) * data_scale)
    z = step * np.arange(-round(10 / step), round(10 / step) + 1)
    weight = step * norm.pdf(z) / 2
    x = np.stack([data_scale * z] * 2)
    y = x + label_noise * np.array([[1.0], [-1.0]])
    phi, slope = FUNCTIONS[activation](w1 * x), SLOPES[activation](w1 * x)
    error = y - w2 * phi
    gradient = -error * np.stack([w2 * x * slope, phi])
    mean = (gradient * weight).sum(axis=(1, 2))
    second = np.einsum("iax,jax,x->ij", gradient, gradient, weight)
    loss = (error**2 * weight).sum() / 2 - label_noise**2 / 2
    return loss, mean, second - np.outer(mean, mean), np.trace(second)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("data_scale", [1.0, 1.7])
@pytest.mark.parametrize(
    "w", [(0.0, 0.0), (0.1, -0.4), (0.8, 1.3), (-2.0, 0.5), (4.0, 1.0), (40.0, 0.3)]
)
def test_scalar_autoencoder_is_the_average_over_its_samples(activation, data_scale, w):
    loss, gradient, noise, scale = sample_average(w, activation, data_scale, 0.6)
    # Both rules are good to 1e-13 of what they add up; 10 for the terms that cancel.
    rounding = 10 * ROUNDING
    size = data_scale**2 + abs(loss)
    assert scalar_loss(w, activation, data_scale) == pytest.approx(
        loss, abs=rounding * size
    )
    np.testing.assert_allclose(
        scalar_gradient(w, activation, data_scale),
        gradient,
        atol=rounding * math.sqrt(scale + 1),
        rtol=rounding,
    )
    np.testing.assert_allclose(
        scalar_noise(w, activation, data_scale, 0.6), noise, atol=rounding * scale
    )


@pytest.mark.parametrize("w1", [0.01, 1.0, 30.0, 1000.0])
@pytest.mark.parametrize("data_scale", [1.0, 3.0])
def test_quadrature_meets_the_closed_form_of_the_error_function(w1, data_scale):
    # tanh has no closed form, erf the same poles at infinity of 1 / |w1|: the same
    # nodes average erf to the accuracy that the docstrings state, relative to s^2.
    w = np.array([w1 / data_scale, 0.7])
    loss = autoencoder._average(lambda e, _: e**2 / 2, w, "erf", data_scale)
    slope = autoencoder._average(lambda e, jac: -e * jac, w, "erf", data_scale)
    size = ROUNDING * data_scale**2
    assert loss == pytest.approx(scalar_loss(w, "erf", data_scale), abs=size)
    np.testing.assert_allclose(slope, scalar_gradient(w, "erf", data_scale), atol=size)


def test_steep_tanh_is_the_sign_function():
    # E (x - w2 sign x)^2 / 2 with E |x| = sqrt(2 / pi); tanh differs from the sign on
    # a layer of width 1 / w1, which costs E (1 - tanh^2) < 2 pdf(0) / w1.
    w1, w2 = 1000.0, 0.9
    limit = (1 - 2 * w2 * math.sqrt(2 / math.pi) + w2**2) / 2
    assert abs(scalar_loss([w1, w2], "tanh") - limit) < 0.8 / w1
    assert scalar_loss([w1, w2], "tanh") != limit


def test_gauss_hermite_would_not_do_for_tanh():
    # 2 L - 1 + 2 w2 E x tanh = w2^2 E tanh^2, .8054 at w1 = 4 by adaptive quadrature.
    def mean(f):
        return 2 * quad(lambda x: f(x) * norm.pdf(x), 0, 12, epsabs=1e-13)[0]

    signal = mean(lambda x: x * np.tanh(4 * x))
    power = 2 * scalar_loss([4.0, 1.0], "tanh") - 1 + 2 * signal
    assert power == pytest.approx(mean(lambda x: np.tanh(4 * x) ** 2), abs=1e-11)
    nodes, weights = np.polynomial.hermite_e.hermegauss(20)
    hermite = (weights * np.tanh(4 * nodes) ** 2).sum() / weights.sum()
    assert abs(hermite - power) > 0.05


@pytest.mark.parametrize("activation", ACTIVATIONS)
@settings(max_examples=25, deadline=None)
@given(
    w=st.tuples(st.floats(-3, 3), st.floats(-3, 3)),
    data_scale=st.floats(0.3, 2),
    weight_decay=st.floats(0, 1),
)
def test_scalar_gradient_is_the_slope_of_the_loss(
    activation, w, data_scale, weight_decay
):
    # Five-point rule: truncation h^4 L^(5) / 30 < 1e-8 for these sizes (L^(5) < 3e3),
    # rounding 1e-16 L / h < 1e-11.
    h = 3e-3
    numerical = [
        sum(
            c * scalar_loss(w + k * h * e, activation, data_scale, weight_decay)
            for k, c in ((-2, 1), (-1, -8), (1, 8), (2, -1))
        )
        / (12 * h)
        for e in np.eye(2)
    ]
    exact = scalar_gradient(w, activation, data_scale, weight_decay)
    np.testing.assert_allclose(exact, numerical, atol=1e-7)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_scalar_autoencoder_keeps_its_symmetry(activation):
    w = np.random.default_rng(0).normal(size=(20, 2))
    np.testing.assert_array_equal(
        scalar_loss(w, activation), scalar_loss(-w, activation)
    )
    np.testing.assert_allclose(
        scalar_gradient(w, activation), -scalar_gradient(-w, activation)
    )
    np.testing.assert_allclose(
        scalar_noise(w, activation, 1.0, 0.3), scalar_noise(-w, activation, 1.0, 0.3)
    )


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_many_networks_are_many_single_ones(activation):
    # One network more than the quadrature takes at once, with leading axes.
    assert autoencoder._NETWORKS_AT_ONCE == 17 * 241 - 1
    w = np.random.default_rng(1).normal(size=(17, 241, 2))
    loss = scalar_loss(w, activation, 1.2, 0.1)
    gradient = scalar_gradient(w, activation, 1.2, 0.1)
    noise = scalar_noise(w, activation, 1.2, 0.5)
    assert loss.shape == (17, 241)
    assert gradient.shape == (17, 241, 2)
    assert noise.shape == (17, 241, 2, 2)
    for place in ((0, 0), (16, 239), (16, 240)):
        one = w[place]
        for many, single in (
            (loss, scalar_loss(one, activation, 1.2, 0.1)),
            (gradient, scalar_gradient(one, activation, 1.2, 0.1)),
            (noise, scalar_noise(one, activation, 1.2, 0.5)),
        ):
            np.testing.assert_allclose(many[place], single, rtol=1e-12, atol=1e-15)
    assert scalar_gradient(np.empty((0, 2)), activation).shape == (0, 2)


def test_linear_noise_has_rank_one():
    w, s, sigma = np.array([0.8, -0.3]), 1.4, 0.5
    noise = scalar_noise(w, data_scale=s, label_noise=sigma)
    assert np.linalg.det(noise) == pytest.approx(0, abs=ROUNDING)
    np.testing.assert_allclose(noise @ [0.8, 0.3], 0, atol=ROUNDING)  # v = (w2, w1)
    assert not scalar_noise([2.0, 0.5]).any()  # no noise where u = 1, without labels


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_minibatch_gradient_is_the_slope_of_the_minibatch_loss(activation):
    rng = np.random.default_rng(2)
    w, batch, decay = rng.normal(size=(5, 2)), rng.normal(size=(5, 3, 2)), 0.3

    def loss(w):
        output = w[:, 1:] * FUNCTIONS[activation](w[:, :1] * batch[..., 0])
        fit = ((batch[..., 1] - output) ** 2).mean(axis=1)
        return (fit + decay * (w**2).sum(axis=1)) / 2

    h = 1e-5
    numerical = [(loss(w + h * e) - loss(w - h * e)) / (2 * h) for e in np.eye(2)]
    gradient = scalar_minibatch_gradient(w, batch, activation, decay)
    # Central differences: h^2 times third derivatives < 1e2, and rounding 1e-16 / h.
    np.testing.assert_allclose(gradient, np.transpose(numerical), atol=1e-8)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_minibatches_have_the_gradient_and_noise_of_the_population(activation):
    rng = np.random.default_rng(3)
    count, size, s, sigma, decay = 100_000, 2, 1.1, 0.5, 0.2
    w = np.array([0.9, 0.6])
    x = s * rng.standard_normal((count, size))
    y = x + sigma * rng.standard_normal((count, size))
    gradients = scalar_minibatch_gradient(
        np.tile(w, (count, 1)), np.stack([x, y], axis=-1), activation, decay
    )
    mean = scalar_gradient(w, activation, s, decay)
    noise = scalar_noise(w, activation, s, sigma)
    off = gradients - mean
    for values, expected in (
        (gradients.T, mean),
        ((off[:, :, None] * off[:, None, :]).reshape(count, 4).T, noise.ravel() / size),
    ):
        error = values.std(axis=1) / math.sqrt(count)
        assert np.all(np.abs(values.mean(axis=1) - expected) < 4.5 * error)


@settings(max_examples=50, deadline=None)
@given(
    seed=seeds,
    learning_rate=st.floats(1e-3, 0.5),
    weight_decay=st.floats(0, 1),
    size=st.integers(1, 5),
)
def test_balance_follows_its_law_along_descent(seed, learning_rate, weight_decay, size):
    rng = np.random.default_rng(seed)
    w = rng.normal(size=(4, 2))
    w[0, 1] = w[0, 0]  # balanced from the start, and for ever
    balance = w[:, 0] ** 2 - w[:, 1] ** 2
    for _ in range(5):
        batch = rng.normal(size=(4, size, 2))
        x, y = batch[..., 0], batch[..., 1]
        residual = np.mean((y - w[:, :1] * w[:, 1:] * x) * x, axis=1)
        expected = balance_step(balance, residual, learning_rate, weight_decay)
        gradient = scalar_minibatch_gradient(w, batch, "linear", weight_decay)
        w = w - learning_rate * gradient
        balance = w[:, 0] ** 2 - w[:, 1] ** 2
        # The squares are what cancels in q.
        rounding = ROUNDING * ((w**2).sum(axis=1) + np.abs(expected))
        assert np.all(np.abs(balance - expected) <= rounding)
        assert balance[0] == 0


# --- A2: two matrices ---------------------------------------------------------------


def random_network(seed, k, d, networks=()):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(d, d))
    return (
        rng.normal(size=(*networks, k, d)),
        rng.normal(size=(*networks, d, k)),
        root @ root.T / d,
    )


SHAPES = [(1, 1), (1, 2), (2, 2), (2, 3), (3, 2)]


@pytest.mark.parametrize(("k", "d"), SHAPES)
def test_matrix_loss_is_the_mean_over_samples(k, d):
    # d samples x with mean of x x^T equal to S, exactly.
    W1, W2, S = random_network(4, k, d, (5,))
    samples = math.sqrt(d) * np.linalg.cholesky(S).T
    errors = samples - samples @ (W2 @ W1).swapaxes(1, 2)
    decay = (W1**2).sum(axis=(1, 2)) + (W2**2).sum(axis=(1, 2))
    expected = (errors**2).sum(axis=2).mean(axis=1) / 2 + 0.3 * decay / 2
    np.testing.assert_allclose(matrix_loss(W1, W2, S, 0.3), expected, rtol=ROUNDING)


def perturbed(W1, W2, index, step):
    """Both matrices with one entry of their row-major vector moved."""
    theta = np.concatenate([W1.ravel(), W2.ravel()])
    theta[index] += step
    return theta[: W1.size].reshape(W1.shape), theta[W1.size :].reshape(W2.shape)


@pytest.mark.parametrize(("k", "d"), SHAPES)
def test_matrix_gradient_is_the_slope_of_the_loss(k, d):
    # The loss is quadratic in each single entry: central differences are exact.
    W1, W2, S = random_network(5, k, d)
    slopes = [
        (
            matrix_loss(*perturbed(W1, W2, i, 0.5), S, 0.3)
            - matrix_loss(*perturbed(W1, W2, i, -0.5), S, 0.3)
        )
        for i in range(2 * k * d)
    ]
    gradient = np.concatenate([g.ravel() for g in matrix_gradient(W1, W2, S, 0.3)])
    np.testing.assert_allclose(gradient, slopes, atol=1e-12)


@pytest.mark.parametrize(("k", "d"), [(1, 1), (1, 2), (2, 2), (2, 3)])
def test_matrix_noise_is_the_covariance_over_samples(k, d):
    # Gauss-Hermite with 3 nodes per axis integrates degree 5; products of two
    # gradients have degree 4 in (x, xi).
    W1, W2, S = random_network(6, k, d)
    sigma = 0.7
    nodes, weights = np.polynomial.hermite_e.hermegauss(3)
    z = np.array(list(itertools.product(nodes, repeat=2 * d)))
    weight = np.prod(list(itertools.product(weights, repeat=2 * d)), axis=1)
    weight /= weight.sum()
    x = z[:, :d] @ np.linalg.cholesky(S).T
    error = x - x @ (W2 @ W1).T + sigma * z[:, d:]
    first = -np.einsum("ni,nj->nij", error @ W2, x).reshape(len(x), -1)
    second = -np.einsum("ni,nj->nij", error, x @ W1.T).reshape(len(x), -1)
    gradients = np.concatenate([first, second], axis=1)
    mean = weight @ gradients
    covariance = (weight[:, None] * gradients).T @ gradients - np.outer(mean, mean)
    exact = np.concatenate([g.ravel() for g in matrix_gradient(W1, W2, S)])
    np.testing.assert_allclose(mean, exact, atol=1e-12)
    noise = matrix_noise(W1, W2, S, sigma)
    np.testing.assert_allclose(noise, covariance, atol=1e-12 * np.abs(noise).max())


def test_matrix_noise_takes_many_networks():
    W1, W2, S = random_network(7, 2, 3, (4, 2))
    noise = matrix_noise(W1, W2, S, 0.4)
    assert noise.shape == (4, 2, 12, 12)
    np.testing.assert_allclose(
        noise[3, 1], matrix_noise(W1[3, 1], W2[3, 1], S, 0.4), rtol=1e-12
    )


@settings(max_examples=25, deadline=None)
@given(
    w=st.tuples(st.floats(-2, 2), st.floats(-2, 2)),
    data_scale=st.floats(0.5, 2),
    label_noise=st.floats(0, 1),
)
def test_one_by_one_matrices_are_the_linear_a1(w, data_scale, label_noise):
    W1, W2, S = [[w[0]]], [[w[1]]], data_scale**2
    close = {"rtol": 1e-12, "atol": 1e-12}
    np.testing.assert_allclose(
        matrix_loss(W1, W2, S, 0.1), scalar_loss(w, "linear", data_scale, 0.1), **close
    )
    np.testing.assert_allclose(
        np.ravel(matrix_gradient(W1, W2, S, 0.1)),
        scalar_gradient(w, "linear", data_scale, 0.1),
        **close,
    )
    np.testing.assert_allclose(
        matrix_noise(W1, W2, S, label_noise),
        scalar_noise(w, "linear", data_scale, label_noise),
        **close,
    )


@pytest.mark.parametrize(("k", "d"), SHAPES)
def test_frozen_hessian_is_the_second_difference_of_the_loss(k, d):
    # Quadratic in the first matrix: differences of step 1 are exact.
    W1, W2, S = random_network(8, k, d)
    size = k * d

    def loss(i, j):
        moved, _ = perturbed(W1, W2, i, 1.0)
        moved, _ = perturbed(moved, W2, j, 1.0)
        return matrix_loss(moved, W2, S, 0.3)

    alone = [matrix_loss(*perturbed(W1, W2, i, 1.0), S, 0.3) for i in range(size)]
    hessian = [
        [
            loss(i, j) - alone[i] - alone[j] + matrix_loss(W1, W2, S, 0.3)
            for j in range(size)
        ]
        for i in range(size)
    ]
    np.testing.assert_allclose(frozen_hessian(W2, S, 0.3), hessian, atol=1e-11)


def test_ornstein_uhlenbeck_reaches_the_lyapunov_covariance():
    rng = np.random.default_rng(9)
    H = frozen_hessian(rng.normal(size=(2, 2)), [[1.0, 0.3], [0.3, 0.6]], 0.1)
    root = rng.normal(size=(4, 4))
    D, V0 = root @ root.T, 0.3 * np.eye(4)
    center, start = rng.normal(size=(2, 4))
    steady = solve_continuous_lyapunov(H, 2 * D)
    times = np.array([0.0, 0.4, 2.0])
    means, covariances = ornstein_uhlenbeck(H, D, center, start, V0, times)
    for t, mean, covariance in zip(times, means, covariances, strict=True):
        decay = expm(-H * t)
        np.testing.assert_allclose(mean, center + decay @ (start - center), atol=1e-11)
        expected = steady + decay @ (V0 - steady) @ decay
        np.testing.assert_allclose(
            covariance, expected, atol=1e-11 * np.abs(steady).max()
        )


def test_ornstein_uhlenbeck_by_hand():
    # V_ij = 2 D_ij / (h_i + h_j) in the basis where H is diagonal.
    D = [[0.5, 0.2], [0.2, 0.3]]
    _, covariances = ornstein_uhlenbeck(
        np.diag([1.0, 3.0]), D, [0, 0], [0, 0], 0.0, [50.0]
    )
    np.testing.assert_allclose(covariances[0], [[0.5, 0.1], [0.1, 0.1]], rtol=ROUNDING)


def test_ornstein_uhlenbeck_on_flat_and_unstable_directions():
    H, D, V0 = np.diag([0.0, -0.5]), np.diag([0.3, 0.2]), np.diag([0.1, 0.4])
    means, covariances = ornstein_uhlenbeck(H, D, [0, 0], [1, 2], V0, [0.0, 3.0])
    np.testing.assert_allclose(means[1], [1, 2 * math.exp(1.5)])
    # V' = -2 h V + 2 D
    free = 0.1 + 2 * 0.3 * 3.0
    unstable = (0.4 + 0.4) * math.exp(3.0) - 0.4
    np.testing.assert_allclose(covariances[1], np.diag([free, unstable]), atol=1e-12)
    np.testing.assert_allclose(covariances[0], V0, atol=ROUNDING)


@settings(max_examples=25, deadline=None)
@given(seed=seeds, first=st.floats(0, 2), second=st.floats(0.01, 2))
def test_ornstein_uhlenbeck_forgets_how_it_got_there(seed, first, second):
    rng = np.random.default_rng(seed)
    H = rng.normal(size=(3, 3))
    H = H + H.T
    D, V0 = (a @ a.T for a in rng.normal(size=(2, 3, 3)))
    center, start = rng.normal(size=(2, 3))
    means, covariances = ornstein_uhlenbeck(
        H, D, center, start, V0, [first, first + second]
    )
    again = ornstein_uhlenbeck(H, D, center, means[0], covariances[0], [second])
    # Unstable modes grow by exp(4 x 8) at most: relative to the largest entry.
    for one, other in ((means[1], again[0][0]), (covariances[1], again[1][0])):
        np.testing.assert_allclose(one, other, atol=1e-11 * max(1, np.abs(one).max()))


def test_frozen_matrix_is_the_fokker_planck_equation_of_a_quadratic_loss():
    W2, S, T = np.array([[0.9], [0.5]]), np.array([[1.0, 0.3], [0.3, 0.6]]), 0.1
    H = frozen_hessian(W2, S, 0.1)
    center = np.linalg.solve(H, (W2.T @ S).ravel())
    means, covariances = ornstein_uhlenbeck(H, T, center, [-0.4, 0.3], 0.09, [1.0])
    exact = np.append(means[0], covariances[0, 0, 1] + means[0, 0] * means[0, 1])
    errors = []
    for cells in (48, 96):
        grid = Grid([-2.4, -2.4], [2.8, 2.8], cells)
        equation = FokkerPlanck(
            grid,
            T,
            lambda w: matrix_loss(w[:, None], np.tile(W2, (len(w), 1, 1)), S, 0.1),
        )
        density = equation.evolve(gaussian(grid, [-0.4, 0.3], 0.3), [1.0], dt=0.01)[0]
        observables = (lambda w: w[:, 0], lambda w: w[:, 1], lambda w: w.prod(axis=1))
        errors.append([equation.mean(f, density) for f in observables] - exact)
    # Second order in the cells: at most 3e-3 on the fine grid, and none when both are
    # extrapolated, up to the fourth order and the steps in time.
    np.testing.assert_allclose(errors[1], 0, atol=3e-3)
    np.testing.assert_allclose((4 * errors[1] - errors[0]) / 3, 0, atol=3e-4)


# --- four weights as two ------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(seed=seeds)
def test_radii_know_the_singular_values(seed):
    rng = np.random.default_rng(seed)
    W = rng.normal(size=(3, 2, 2))
    radii = rotation_radii(W)
    expected = np.linalg.svd(W, compute_uv=False)
    np.testing.assert_allclose(singular_values(radii), expected, atol=1e-13)
    np.testing.assert_allclose((radii**2).sum(-1), (W**2).sum((1, 2)), rtol=1e-13)
    determinant = (radii[:, 0] ** 2 - radii[:, 1] ** 2) / 2
    np.testing.assert_allclose(determinant, np.linalg.det(W), atol=1e-13)
    left, right = (
        np.array([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]])
        for a in rng.uniform(0, 7, 2)
    )
    np.testing.assert_allclose(rotation_radii(left @ W @ right), radii, atol=1e-13)


def test_rayleigh_has_exact_cell_averages():
    grid, std = Grid([0, 0.5], [1, 2.5], [3, 4]), 0.7
    density = rayleigh(grid, std)

    def mass(axis, cell):
        lower, upper = grid.edges[axis][cell : cell + 2]
        pdf = quad(lambda r: r / std**2 * math.exp(-(r**2) / 2 / std**2), lower, upper)
        return pdf[0]

    for i, j in np.ndindex(3, 4):
        expected = mass(0, i) * mass(1, j) / grid.cell_volume
        assert density[i, j] == pytest.approx(expected, rel=1e-11)


def test_rayleigh_is_the_density_of_normal_matrices():
    grid, std = Grid([0, 0], [6, 6], 120), 0.8
    density = rayleigh(grid, std) * grid.cell_volume
    assert density.sum() == pytest.approx(1, abs=1e-10)
    # Each radius squared is the sum of two squares; h^2 / 12 from the cell averages.
    mean = (density * (grid.points**2).sum(axis=1).reshape(grid.shape)).sum()
    assert mean == pytest.approx(4 * std**2, abs=2 * grid.spacing[0] ** 2 / 12 + 1e-5)


RADIAL_WALL = (
    "ignore:.* cells at the wall .* = 0 :fpbook.fokker_planck.MassAtWallWarning"
)


@pytest.mark.filterwarnings(RADIAL_WALL)
def test_radii_of_free_matrices_stay_rayleigh():
    # L = |W|^2 / 2: each entry is Ornstein-Uhlenbeck, std^2 = T + (std0^2 - T) e^-2t.
    T, std0, t = 0.2, 0.8, 0.5
    std = math.sqrt(T + (std0**2 - T) * math.exp(-2 * t))
    potential = rotation_invariant_potential(lambda s: (s**2).sum(axis=-1) / 2, T)
    errors = []
    for cells in (40, 80):
        grid = Grid([0, 0], [4.4, 4.4], cells)
        equation = FokkerPlanck(grid, T, potential)
        density = equation.evolve(rayleigh(grid, std0), [t], dt=0.01)[0]
        gap = density - rayleigh(grid, std)
        errors.append(np.abs(gap).sum() * grid.cell_volume / 2)
    # Second order, with a logarithm from the cells at radius 0.
    assert errors[0] < 5e-3
    assert 3.4 < errors[0] / errors[1] < 4.6


@pytest.mark.filterwarnings(RADIAL_WALL)
def test_tied_matrix_agrees_with_the_equation_of_four_weights():
    # A solver in the four weights themselves gave 1.62361 for E tr W^T W at t = 1 with
    # T = .1 and entries N(0, 1/4), and .24374 for the loss, extrapolated in h^2 from 32
    # and 48 cells per axis; differences of 3e-5 were seen between the two ways.
    T = 0.1

    def loss(sigma):
        return ((1 - sigma**2) ** 2).sum(axis=-1) / 2

    results = []
    for cells in (50, 100):
        grid = Grid([0, 0], [3.2, 3.2], cells)
        equation = FokkerPlanck(grid, T, rotation_invariant_potential(loss, T))
        density = equation.evolve(rayleigh(grid, 0.5), [1.0], dt=0.01)[0]
        results.append(
            [
                equation.mean(lambda r: (r**2).sum(axis=-1), density),
                equation.mean(lambda r: loss(singular_values(r)), density),
            ]
        )
    extrapolated = (4 * np.array(results[1]) - results[0]) / 3
    np.testing.assert_allclose(extrapolated, [1.62361, 0.24374], atol=1.5e-4)


# --- arguments ----------------------------------------------------------------------

GOOD = {
    scalar_loss: {"w": [1.0, 1.0], "activation": "tanh"},
    scalar_gradient: {"w": [1.0, 1.0], "activation": "tanh"},
    scalar_noise: {"w": [1.0, 1.0], "activation": "tanh"},
    scalar_minibatch_gradient: {"w": [[1.0, 1.0]], "batch": [[[1.0, 1.0]]]},
    balance_step: {"difference": 1.0, "residual": 1.0, "learning_rate": 0.1},
    matrix_loss: {"W1": [[1.0, 2.0]], "W2": [[1.0], [2.0]], "covariance": np.eye(2)},
    matrix_gradient: {
        "W1": [[1.0, 2.0]],
        "W2": [[1.0], [2.0]],
        "covariance": np.eye(2),
    },
    matrix_noise: {"W1": [[1.0, 2.0]], "W2": [[1.0], [2.0]], "covariance": np.eye(2)},
    frozen_hessian: {"W2": [[1.0], [2.0]], "covariance": np.eye(2)},
    ornstein_uhlenbeck: {
        "hessian": np.eye(2),
        "diffusion": 0.1,
        "minimum": [0.0, 0.0],
        "mean0": [0.0, 0.0],
        "covariance0": 1.0,
        "times": [1.0],
    },
    rotation_radii: {"W": np.eye(2)},
    singular_values: {"radii": [1.0, 2.0]},
    rotation_invariant_potential: {
        "loss_of_singular_values": np.sum,
        "temperature": 0.1,
    },
    rayleigh: {"grid": Grid(0, 1, 4), "std": 0.1},
}

POSITIVE = ("data_scale", "learning_rate", "temperature", "std")
NON_NEGATIVE = ("weight_decay", "label_noise")
SKEW = [[1.0, 0.5], [0.0, 1.0]]
NEGATIVE = [[1.0, 0.0], [0.0, -1.0]]
COVARIANCES = [np.ones(2), np.ones((2, 3)), SKEW, NEGATIVE, np.full((2, 2), np.nan)]
SIZED = [*COVARIANCES, np.eye(3), -0.1]
TIMES = ([], [-1.0], [1.0, 1.0], [math.nan], [math.inf], [[1.0]])
BAD = {
    **{name: (0.0, -1.0, math.nan, math.inf) for name in POSITIVE},
    **{name: (-1.0, math.nan, math.inf) for name in NON_NEGATIVE},
    "w": (1.0, [1.0], [[1.0, 2.0, 3.0]]),
    "activation": ("relu", None),
    "W1": ([1.0, 2.0], [[1.0]]),
    "W2": ([1.0, 2.0], [[1.0, 2.0]], [[1.0], [2.0], [3.0]]),
    "covariance": COVARIANCES,
    "hessian": ([1.0], np.ones((2, 3)), SKEW, np.full((2, 2), np.inf)),
    "diffusion": SIZED,
    "covariance0": SIZED,
    "minimum": ([1.0], [[1.0, 2.0]], [math.nan, 1.0]),
    "mean0": ([1.0], [math.inf, 1.0]),
    "times": TIMES,
    "W": (1.0, [1.0, 2.0], np.ones((2, 3))),
    "radii": (1.0, [1.0], [1.0, -1.0], [math.nan, 1.0]),
}


def defaults(function):
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    return [name for name in names if name in BAD]


@pytest.mark.parametrize(
    ("function", "name", "value"),
    [
        pytest.param(function, name, value, id=f"{function.__name__}-{name}-{i}")
        for function in GOOD
        for name in defaults(function)
        for i, value in enumerate(BAD[name])
    ],
)
def test_bad_arguments_are_named(function, name, value):
    with pytest.raises(ValueError, match=rf"^{name} must .*got "):
        function(**{**GOOD[function], name: value})


@pytest.mark.parametrize("function", GOOD)
def test_good_arguments_are_taken(function):
    function(**GOOD[function])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"w": [1.0, 1.0]}, r"^w must have shape \(n, 2\), got \(2,\)"),
        ({"batch": [[1.0, 1.0]]}, r"^batch must .* n = 1 .*got \(1, 2\)"),
        ({"batch": np.ones((2, 1, 2))}, r"^batch must .*got \(2, 1, 2\)"),
        ({"batch": np.ones((1, 1, 3))}, r"^batch must .*got \(1, 1, 3\)"),
        ({"batch": np.ones((1, 0, 2))}, r"^batch must .*B >= 1, got \(1, 0, 2\)"),
    ],
)
def test_minibatches_must_fit_the_networks(changes, message):
    arguments = {**GOOD[scalar_minibatch_gradient], **changes}
    with pytest.raises(ValueError, match=message):
        scalar_minibatch_gradient(**arguments)


def test_radii_are_not_negative():
    with pytest.raises(ValueError, match=r"^grid must have no radii below 0, got Grid"):
        rayleigh(Grid(-1, 1, 4), 0.1)
