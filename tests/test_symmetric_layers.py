"""Symmetric layers against gradient descent itself and against exact arithmetic.

Three independent references: GD on small numpy losses that have the symmetry; the
logarithm of the GD step as an exact power series over the rationals; and the Newton
series of GD iterates, sum_m (-1)^(m+1) Delta^m / (m eta), which converges to the
velocity of the full Equation of Motion.
"""

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad, solve_ivp
from scipy.optimize import brentq

from fpbook.symmetric_layers import (
    angular_update,
    decay_rate,
    effective_learning_rate,
    equilibrium,
    spiral_descent,
    spiral_field,
    spiral_flow,
    squared_norm_step,
    squared_norm_velocity,
)

# A handful of float64 operations: a few units of 1.1e-16, with a margin of 100.
ROUNDING = 1e-13

seeds = st.integers(0, 2**32 - 1)


def fitted_slope(steps, errors):
    return np.polyfit(np.log(steps), np.log(np.abs(errors)), 1)[0]


def descend(gradient, theta, learning_rate, weight_decay, steps):
    iterates = [theta]
    for _ in range(steps):
        theta = theta - learning_rate * (gradient(theta) + weight_decay * theta)
        iterates.append(theta)
    return np.array(iterates)


def newton_velocity(values, learning_rate, terms):
    """Time derivative at step 0 of the polynomial through steps 0 to ``terms``."""
    differences = np.array(values, dtype=float)
    velocity = 0.0
    for m in range(1, terms + 1):
        differences = np.diff(differences, axis=0)
        velocity = velocity + (-1) ** (m + 1) * differences[0] / (m * learning_rate)
    return velocity


# --- translation-invariant layers ---------------------------------------------------


class Softmax:
    """Softmax regression, 3 features and 4 classes: the class mean is a symmetry."""

    def __init__(self, seed=0):
        rng = np.random.default_rng(seed)
        self.inputs = rng.normal(size=(10, 3))
        self.labels = np.eye(4)[rng.integers(0, 4, 10)]
        self.start = rng.normal(size=(3, 4)) + 1.0

    def gradient(self, theta):
        scores = np.exp(self.inputs @ theta)
        return self.inputs.T @ (scores / scores.sum(1, keepdims=True) - self.labels)


@settings(max_examples=30, deadline=None)
@given(seed=seeds, decay=st.floats(0.01, 0.9), weight_decay=st.floats(0.01, 1.0))
def test_all_orders_decay_like_gradient_descent(seed, decay, weight_decay):
    softmax = Softmax(seed)
    learning_rate, steps = decay / weight_decay, 10
    # Small inputs keep GD bounded at any learning rate; the mean does not notice.
    softmax.inputs *= 1e-3
    path = descend(
        softmax.gradient, softmax.start, learning_rate, weight_decay, steps
    ).mean(2)
    times = learning_rate * np.arange(steps + 1)[:, None]
    expected = path[0] * np.exp(-decay_rate(learning_rate, weight_decay) * times)
    # The mean of entries of size |theta| cancels to (1 - decay)^k: an error of
    # 1e-16 |theta| per step, |theta| < 1e2.
    np.testing.assert_allclose(path, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("order", range(5))
def test_decay_rate_is_the_newton_series_of_gradient_descent(order):
    # On a linear mode the m-th difference is (-eta lam)^m times the mode, so that the
    # Newton series cut after order + 1 terms equals EoM_order exactly.
    softmax, learning_rate, weight_decay = Softmax(), 0.4, 0.9
    path = descend(
        softmax.gradient, softmax.start, learning_rate, weight_decay, order + 1
    )
    velocity = newton_velocity(path.mean(2), learning_rate, order + 1)
    rate = decay_rate(learning_rate, weight_decay, order)
    # Differences of order m amplify rounding by 2^m < 100.
    np.testing.assert_allclose(velocity, -rate * path[0].mean(1), rtol=1e-12)


def test_decay_rate_order_zero_is_gradient_flow():
    softmax, weight_decay = Softmax(), 0.3
    flow = solve_ivp(
        lambda _, y: -(softmax.gradient(y.reshape(3, 4)).ravel() + weight_decay * y),
        (0, 2.0),
        softmax.start.ravel(),
        method="DOP853",
        rtol=1e-12,
        atol=1e-12,
    )
    end = flow.y[:, -1].reshape(3, 4).mean(1)
    expected = softmax.start.mean(1) * np.exp(-2.0 * decay_rate(0.1, weight_decay, 0))
    np.testing.assert_allclose(end, expected, rtol=1e-10)  # 100 x the solver's rtol


@pytest.mark.parametrize("decay", [0.1, 0.5, 0.9])
def test_decay_rate_converges_as_its_series(decay):
    learning_rate = 0.25
    weight_decay = decay / learning_rate
    limit = decay_rate(learning_rate, weight_decay)
    for order in range(30):
        error = limit - decay_rate(learning_rate, weight_decay, order)
        dropped = decay ** (order + 2) / ((order + 2) * learning_rate)
        # A positive series: first dropped term <= error <= its geometric majorant.
        slack = ROUNDING * limit
        assert dropped - slack <= error <= dropped / (1 - decay) + slack


def test_decay_rate_keeps_its_digits_for_small_decay():
    # The quadratic term is 5e-11 of the rate; log(1 - eta lam) would lose it.
    assert decay_rate(1e-6, 1e-4) == pytest.approx(1e-4 * (1 + 0.5e-10), rel=1e-15)


def test_no_weight_decay_no_rate():
    assert decay_rate(0.1, 0.0) == 0.0
    assert decay_rate(0.1, 0.0, 3) == 0.0


# --- scale-invariant layers ---------------------------------------------------------


class ScaleInvariant:
    """Smooth loss of the directions of two blocks, w = theta[:4] and v = theta[4:]."""

    def __init__(self, seed=0):
        rng = np.random.default_rng(seed)
        self.mixing = rng.normal(size=(4, 3))
        self.left = rng.normal(size=4)
        self.right = rng.normal(size=3)
        self.start = rng.normal(size=7)
        self.start[:4] *= rng.uniform(0.8, 2) / np.linalg.norm(self.start[:4])
        self.start[4:] *= rng.uniform(0.8, 2) / np.linalg.norm(self.start[4:])

    def loss(self, theta):
        n, m, _, _ = self.directions(theta)
        return n @ self.mixing @ m + np.sin(self.left @ n) * (self.right @ m)

    def gradient(self, theta):
        n, m, r, s = self.directions(theta)
        by_n = self.mixing @ m + np.cos(self.left @ n) * (self.right @ m) * self.left
        by_m = self.mixing.T @ n + np.sin(self.left @ n) * self.right
        return np.concatenate(
            [(by_n - n * (n @ by_n)) / r, (by_m - m * (m @ by_m)) / s]
        )

    @staticmethod
    def directions(theta):
        w, v = theta[:4], theta[4:]
        r, s = np.sqrt(w @ w), np.sqrt(v @ v)  # no conjugate: fit for a complex step
        return w / r, v / s, r, s


def hessian_product(gradient, theta, vector):
    """Derivative of the gradient along a vector: complex step, exact to rounding."""
    return gradient(theta + 1e-30j * vector).imag / 1e-30


def test_the_scale_invariant_loss_is_one():
    model = ScaleInvariant()
    theta, unit = model.start, np.eye(7)
    gradient = model.gradient(theta)
    by_complex_step = [model.loss(theta + 1e-30j * e).imag / 1e-30 for e in unit]
    np.testing.assert_allclose(gradient, by_complex_step, rtol=1e-12, atol=1e-14)
    assert theta[:4] @ gradient[:4] == pytest.approx(0, abs=1e-14)
    curvature = hessian_product(model.gradient, theta, gradient)
    assert theta[:4] @ curvature[:4] == pytest.approx(-gradient[:4] @ gradient[:4])


@settings(max_examples=40, deadline=None)
@given(seed=seeds, learning_rate=st.floats(1e-3, 1.0), weight_decay=st.floats(0.0, 0.9))
def test_norm_and_angle_of_gradient_descent(seed, learning_rate, weight_decay):
    model = ScaleInvariant(seed)
    path = descend(model.gradient, model.start, learning_rate, weight_decay, 5)
    for theta, after in pairwise(path):
        for block in (slice(0, 4), slice(4, 7)):
            w, w_next, g = theta[block], after[block], model.gradient(theta)[block]
            r, norm = np.linalg.norm(w), np.linalg.norm(g)
            # w . g = 0 holds to 1e-16 |w| |g|; a step mixes it in with eta < 1.
            assert squared_norm_step(
                r**2, norm**2, learning_rate, weight_decay
            ) == pytest.approx(w_next @ w_next, rel=1e-12)
            # Kahan's formula for the angle, accurate at any size
            scaled, scaled_next = w * np.linalg.norm(w_next), w_next * r
            measured = 2 * np.arctan2(
                np.linalg.norm(scaled - scaled_next),
                np.linalg.norm(scaled + scaled_next),
            )
            angle = angular_update(norm, r, learning_rate, weight_decay)
            assert angle == pytest.approx(measured, rel=1e-12, abs=1e-14)
            effective = effective_learning_rate(r, learning_rate, weight_decay)
            # tan amplifies by 1 + tan^2 near pi / 2, hence the comparison of angles
            assert np.arctan(effective * norm * r) == pytest.approx(
                measured, rel=1e-12, abs=1e-14
            )


def norm_velocity_errors(gradient, theta, weight_decay, order, learning_rates):
    """Truncated velocity of |w|^2 minus the one of all orders, w = theta[:4]."""
    errors = []
    for eta in learning_rates:
        g = gradient(theta)
        curvature = hessian_product(gradient, theta, g)
        truncated = squared_norm_velocity(
            theta[:4] @ theta[:4],
            g[:4] @ g[:4],
            eta,
            weight_decay,
            order,
            gradient_curvature=g[:4] @ curvature[:4],
        )
        path = descend(gradient, theta, eta, weight_decay, 8)[:, :4]
        errors.append(truncated - newton_velocity((path**2).sum(1), eta, 8))
    return errors


@pytest.mark.parametrize("order", range(3))
@pytest.mark.parametrize("weight_decay", [0.0, 0.7])
def test_norm_velocity_misses_the_next_order_only(order, weight_decay):
    # The Newton series is cut at eta^8, its rounding is 1e-16 * 2^8 / eta = 1e-11 and
    # the smallest error 1e-7. A wrong coefficient at order p would give slope p.
    model = ScaleInvariant()
    etas = np.array([0.02, 0.01, 0.005])
    errors = norm_velocity_errors(
        model.gradient, model.start, weight_decay, order, etas
    )
    # Slopes at finite eta are off by O(eta) of the next term's ratio, about 0.05.
    assert fitted_slope(etas, errors) == pytest.approx(order + 1, abs=0.15)


def test_order_two_needs_every_decayed_parameter_scale_invariant():
    # A decayed scale for the output breaks EoM_2 of the norm, but not EoM_1.
    model = ScaleInvariant()

    def gradient(theta):
        directions, scale = theta[:7], theta[7]
        return np.append(
            scale * model.gradient(directions), model.loss(directions) + scale - 1
        )

    theta = np.append(model.start, 1.5)
    etas = np.array([0.02, 0.01, 0.005])
    slopes = [
        fitted_slope(etas, norm_velocity_errors(gradient, theta, 0.7, order, etas))
        for order in (1, 2)
    ]
    # Both miss an eta^2 term; tolerance as in the previous test.
    np.testing.assert_allclose(slopes, 2, atol=0.15)


def test_gradient_flow_without_decay_conserves_the_norm():
    assert squared_norm_velocity(2.0, 3.0, 0.1, 0.0, 0) == 0.0


def test_norm_velocity_order_one_does_not_use_the_curvature():
    assert squared_norm_velocity(2.0, 3.0, 0.1, 0.2, 1, 1e9) == squared_norm_velocity(
        2.0, 3.0, 0.1, 0.2, 1
    )


# --- the spiral: GD -----------------------------------------------------------------

spiral_parameters = {
    "radius": st.floats(0.3, 3.0),
    "c": st.floats(0.1, 3.0),
    "learning_rate": st.floats(0.01, 1.0),
    "weight_decay": st.floats(0.0, 0.9),
}


@settings(max_examples=40, deadline=None)
@given(phase=st.floats(-3, 3), **spiral_parameters)
def test_spiral_descent_is_descent_on_the_polar_angle(
    phase, radius, c, learning_rate, weight_decay
):
    start = radius * np.array([np.cos(phase), np.sin(phase)])

    def gradient(z):
        # complex step of c * (polar angle), Im log, along both axes
        h = 1e-30
        x, y = z
        return (
            c
            * np.array(
                [np.arctan2(-h * y, x * x + y * y), np.arctan2(h * x, x * x + y * y)]
            )
            / h
        )

    path = spiral_descent(start, c, learning_rate, weight_decay, 8)
    expected = descend(gradient, start, learning_rate, weight_decay, 8)
    assert path.shape == (9, 2)
    np.testing.assert_array_equal(path[0], start)
    # eight steps; a step may amplify by 1 + 2 eta c / r^2 < 1e2 where r is small
    np.testing.assert_allclose(path, expected, rtol=1e-9, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(**spiral_parameters)
def test_spiral_descent_obeys_norm_and_angle_law(
    radius, c, learning_rate, weight_decay
):
    z = spiral_descent([0.0, radius], c, learning_rate, weight_decay, 8)
    x = (z**2).sum(1)
    r, norm = np.sqrt(x), c / np.sqrt(x)
    np.testing.assert_allclose(
        x[1:],
        squared_norm_step(x[:-1], norm[:-1] ** 2, learning_rate, weight_decay),
        rtol=ROUNDING,
    )
    complex_z = z[:, 0] + 1j * z[:, 1]
    np.testing.assert_allclose(
        np.angle(complex_z[1:] / complex_z[:-1]),
        -angular_update(norm[:-1], r[:-1], learning_rate, weight_decay),  # clockwise
        rtol=ROUNDING,
    )


def test_spiral_descent_follows_gradient_descent_past_decay_one():
    # eta lam = 1.5 throws z across the origin; the plain iteration is still right.
    z = spiral_descent([1.0, 0.0], 0.5, 1.0, 1.5, 1)
    np.testing.assert_allclose(z[1], [-0.5, -0.5], rtol=ROUNDING)


@pytest.mark.parametrize(
    ("start", "learning_rate", "weight_decay", "step"),
    [([1e-170, 0.0], 0.1, 0.1, 1), ([1e304, 0.0], 10.0, 1.0, 5)],
)
def test_spiral_descent_names_the_step_that_overflows(
    start, learning_rate, weight_decay, step
):
    # 1e-170: |z|^2 underflows. 1e304: each step multiplies by -9, 9^5 > 1.8e4 > 9^4.
    with pytest.raises(FloatingPointError, match=f"step {step} is not finite"):
        spiral_descent(start, 1.0, learning_rate, weight_decay, 20)


# --- the spiral: fields by exact arithmetic -----------------------------------------


def multiply(a, b):
    return [sum(a[i] * b[k - i] for i in range(k + 1)) for k in range(len(a))]


def reciprocal(a):
    inverse = [1 / a[0]]
    for k in range(1, len(a)):
        inverse.append(-sum(a[i] * inverse[k - i] for i in range(1, k + 1)) / a[0])
    return inverse


def arctan(a):
    total, power = [0 * q for q in a], a
    for n in range(1, len(a), 2):
        sign = 1 if n % 4 == 1 else -1
        total = [t + sign * q / n for t, q in zip(total, power, strict=True)]
        power = multiply(multiply(power, a), a)
    return total


def step_logarithm(x, c, lam, order):
    """Counter terms f_0 .. f_order of the spiral in the coordinates (r^2, angle).

    log K = sum_m (-1)^(m+1) (K - 1)^m / m for the composition K with the GD step;
    (K - 1)^m of a coordinate is its m-th difference along the iterates, O(eta^m).
    Iterates are power series in eta; exact if x, c and lam are fractions.
    """
    length = order + 2
    shrink = [1, -lam] + [0] * (length - 2)
    radial, angular = [[x] + [0 * x] * (length - 1)], [[0 * x] * length]
    for _ in range(order + 1):
        inverse = reciprocal(radial[-1])
        growth = [0, 0, *(c * c * q for q in inverse)][:length]
        kept = multiply(multiply(shrink, shrink), radial[-1])
        slope = [0, *(c * q for q in multiply(inverse, reciprocal(shrink)))][:length]
        turn = arctan(slope)
        radial.append([p + q for p, q in zip(kept, growth, strict=True)])
        angular.append([p - q for p, q in zip(angular[-1], turn, strict=True)])

    def logarithm(values):
        total = [0 * x] * length
        for m in range(1, order + 2):
            values = [
                [q - p for p, q in zip(before, after, strict=True)]
                for before, after in pairwise(values)
            ]
            total = [
                t + (-1) ** (m + 1) * q / m
                for t, q in zip(total, values[0], strict=True)
            ]
        return total[1:]

    return logarithm(radial), logarithm(angular)


def positive_fractions(smallest, largest):
    return st.fractions(Fraction(smallest), Fraction(largest), max_denominator=12)


def test_step_logarithm_starts_like_the_modified_equation_of_euler():
    # f_1 = -f'f / 2 in the plane: x' = c^2/x - lam^2 x, no angular part.
    radial, angular = step_logarithm(Fraction(2), Fraction(3), Fraction(1, 5), 1)
    assert radial == [Fraction(-4, 5), Fraction(9, 2) - Fraction(2, 25)]
    assert angular == [Fraction(-3, 2), 0]


@pytest.mark.parametrize("order", range(5))
@settings(max_examples=25, deadline=None)
@given(
    x=positive_fractions("1/2", 3),
    c=positive_fractions("1/2", 3),
    lam=st.one_of(st.just(Fraction(0)), positive_fractions("1/4", 2)),
    eta=positive_fractions("1/4", 1),
)
def test_spiral_field_is_the_logarithm_of_the_descent_step(order, x, c, lam, eta):
    computed = spiral_field(float(x), float(c), float(eta), float(lam), order)
    for velocity, terms in zip(computed, step_logarithm(x, c, lam, order), strict=True):
        exact = sum(eta**j * term for j, term in enumerate(terms))
        size = sum(abs(eta**j * term) for j, term in enumerate(terms))
        # Monomials of one order may cancel. All of them are at most 2 (a + u)^degree
        # per step, so that rounding is relative to that and to the sum over orders.
        a, u = eta * c / x, eta * lam
        scale = float(size + x / eta * (a + u) ** (order + 1))
        assert velocity == pytest.approx(float(exact), abs=1e-14 * scale)


@pytest.mark.parametrize("order", range(1, 5))
@pytest.mark.parametrize("decay", [0.01, 0.2, 0.8])
def test_equilibrium_of_truncated_equations(order, decay):
    c, weight_decay = 1.3, 0.2
    eta = decay / weight_decay
    radius, angle = equilibrium(c, eta, weight_decay, order)

    def field(x):
        terms = step_logarithm(x, c, weight_decay, order)
        return [sum(eta**j * f for j, f in enumerate(part)) for part in terms]

    # the scale of EoM_1, within a factor of 3 of all orders for eta lam < 1
    scale = math.sqrt(eta * c**2 / (2 * weight_decay + eta * weight_decay**2))
    expected = brentq(lambda x: field(x)[0], scale / 3, 3 * scale, xtol=1e-15)
    # brentq to 1e-15, on a field whose rounding near its simple zero is similar
    assert radius**2 == pytest.approx(expected, rel=1e-11)
    assert angle == pytest.approx(-eta * field(expected)[1], rel=1e-11)


# --- equilibrium --------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    c=st.floats(0.1, 10), weight_decay=st.floats(0.01, 1), decay=st.floats(0.05, 0.9)
)
def test_equilibrium_is_where_gradient_descent_settles(c, weight_decay, decay):
    eta = decay / weight_decay
    radius, angle = equilibrium(c, eta, weight_decay)
    # Perturbations of r^2 shrink by |2 (1 - u)^2 - 1| <= 0.98 per step (u = 0.9):
    # 2000 steps reach 1e-17, and GD forgets its start at 3 r*.
    z = spiral_descent([3 * radius, 0.0], c, eta, weight_decay, 2000) @ [1, 1j]
    assert abs(z[-1]) == pytest.approx(radius, rel=1e-12)
    assert -np.angle(z[-1] / z[-2]) == pytest.approx(angle, rel=1e-12)
    assert angle == pytest.approx(math.acos(1 - decay), rel=1e-12)
    assert radius**4 == pytest.approx(
        eta * c**2 / (2 * weight_decay - eta * weight_decay**2), rel=1e-12
    )
    assert squared_norm_step(
        radius**2, (c / radius) ** 2, eta, weight_decay
    ) == pytest.approx(radius**2, rel=1e-12)


def test_equilibrium_angle_keeps_its_digits_for_small_decay():
    # arccos(1 - u) = sqrt(2 u) (1 + u / 12 + ...); arccos itself loses all digits here
    _, angle = equilibrium(1.0, 1e-7, 1e-8)
    assert angle == pytest.approx(np.sqrt(2e-15), rel=1e-14)


def test_first_order_equilibrium_in_closed_form():
    c, eta, lam = 1.7, 0.8, 0.3
    radius, angle = equilibrium(c, eta, lam, order=1)
    assert radius**4 == pytest.approx(eta * c**2 / (2 * lam + eta * lam**2), rel=1e-14)
    assert angle == pytest.approx(np.sqrt(2 * eta * lam + (eta * lam) ** 2), rel=1e-14)
    balance = squared_norm_velocity(radius**2, (c / radius) ** 2, eta, lam, order=1)
    assert balance == pytest.approx(0, abs=1e-14)  # two terms of size one cancel


@pytest.mark.parametrize(("order", "slope"), [(1, 1), (2, 1), (3, 2), (4, 2)])
def test_orders_pair_up_at_equilibrium(order, slope):
    decays = np.array([4e-3, 2e-3, 1e-3])
    exact = equilibrium(1.0, decays / 0.1, 0.1)
    truncated = equilibrium(1.0, decays / 0.1, 0.1, order)
    for value, reference in zip(truncated, exact, strict=True):
        # the next power of eta lam bends the slope by 10 x 4e-3 at most
        errors = value / reference - 1
        assert fitted_slope(decays, errors) == pytest.approx(slope, abs=0.05)


# --- the spiral: flows --------------------------------------------------------------


@pytest.mark.parametrize("weight_decay", [0.0, 0.4])
def test_gradient_flow_shrinks_and_turns_in_closed_form(weight_decay):
    c, eta, start, steps = 0.7, 0.1, np.array([0.6, -0.8]), 30
    times = eta * np.arange(steps + 1)
    clock = times if weight_decay == 0 else np.expm1(0.8 * times) / 0.8
    z = (start @ [1, 1j]) * np.exp(-weight_decay * times - 1j * c * clock)
    path = spiral_flow(start, c, eta, weight_decay, steps, 0)
    np.testing.assert_array_equal(path[0], start)
    # 30 accumulated errors of the solver, 1e-12 each, for up to 9 radians
    np.testing.assert_allclose(path @ [1, 1j], z, rtol=0, atol=1e-10)


def test_first_order_flow_in_closed_form():
    # x = r^2: (x^2)' = -2 (2 lam + eta lam^2) x^2 + 2 eta c^2 is linear; angle' = -c/x.
    c, eta, lam, steps = 0.7, 0.5, 0.4, 12
    rate = 2 * (2 * lam + eta * lam**2)
    x_end = math.sqrt(2 * eta * c**2 / rate)

    def x(t):
        return math.sqrt(x_end**2 + (1 - x_end**2) * math.exp(-rate * t))

    path = spiral_flow([1.0, 0.0], c, eta, lam, steps, 1)
    for k in range(steps + 1):
        angle = -quad(lambda t: c / x(t), 0, k * eta, epsabs=1e-13, epsrel=1e-13)[0]
        expected = math.sqrt(x(k * eta)) * np.exp(1j * angle)
        # accumulated solver errors of 1e-12 per step
        np.testing.assert_allclose(path[k] @ [1, 1j], expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("order", range(5))
def test_flow_follows_descent_to_its_order(order):
    # Fixed horizon 2, eta halved: global error eta^(order + 1). The smallest error,
    # 8e-11 at order 4, is far above the solver's 1e-12.
    start, c, lam, horizon = np.array([1.6, 1.2]), 1.5, 0.3, 2.0
    etas = horizon / np.array([40, 80, 160])
    errors = []
    for eta in etas:
        steps = round(horizon / eta)
        gap = spiral_flow(start, c, eta, lam, steps, order) - spiral_descent(
            start, c, eta, lam, steps
        )
        errors.append(np.abs(gap).max())
    # the next order bends the slope by 0.13 at these eta, half as much at half of them
    assert fitted_slope(etas, errors) == pytest.approx(order + 1, abs=0.2)


def test_flow_of_no_steps_is_the_start():
    np.testing.assert_array_equal(spiral_flow([3, 4], 1.0, 0.1, 0.1, 0, 2), [[3, 4]])


def test_gradient_flow_ends_when_its_angle_is_lost():
    # |angle| = c (exp(2 lam t) - 1) / (2 lam) reaches 1e-3 / 1e-12 = 1e9 at `lost`.
    c, eta, lam = 1.0, 0.25, 0.1
    lost = math.log1p(2 * lam * 1e9 / c) / (2 * lam)
    last = math.floor(lost / eta) * eta
    spiral_flow([1.0, 0.0], c, eta, lam, round(last / eta), 0)
    with pytest.raises(FloatingPointError, match=f"order 0.* after time {last},"):
        spiral_flow([1.0, 0.0], c, eta, lam, 1000, 0)


@pytest.mark.parametrize("radius", [1e-100, 1e-170])
def test_flow_from_next_to_the_origin_fails_instead_of_hanging(radius):
    # a = eta c / r^2 makes a^5, or a itself, infinite
    with pytest.raises(FloatingPointError, match=r"after time 0\.0,"):
        spiral_flow([radius, 0.0], 1.0, 0.1, 0.1, 3, 4)


# --- arguments ----------------------------------------------------------------------


def test_functions_broadcast():
    etas, lams = np.array([0.1, 0.3]), np.array([[0.2], [0.5], [0.9]])
    table = {
        decay_rate: (),
        squared_norm_step: (2.0, 3.0),
        effective_learning_rate: (1.5,),
        angular_update: (0.7, 1.5),
    }
    for function, leading in table.items():
        values = function(*leading, etas, lams)
        assert values.shape == (3, 2)
        for i, j in np.ndindex(3, 2):
            alone = function(*leading, etas[j], lams[i, 0])
            assert values[i, j] == pytest.approx(alone, rel=ROUNDING)
    for order in (None, 1, 4):
        both = equilibrium(1.3, etas, lams, order)
        alone = equilibrium(1.3, etas[1], lams[2, 0], order)
        for values, value in zip(both, alone, strict=True):
            assert values[2, 1] == pytest.approx(value, rel=ROUNDING)
    both = spiral_field(np.array([1.0, 2.0]), 1.3, 0.1, lams, 4)
    alone = spiral_field(2.0, 1.3, 0.1, 0.5, 4)
    for values, value in zip(both, alone, strict=True):
        assert values[1, 1] == pytest.approx(value, rel=ROUNDING)
    velocity = squared_norm_velocity(np.array([1.0, 2.0]), 1.0, 0.1, lams, 2, 0.3)
    assert velocity.shape == (3, 2)


GOOD = {
    decay_rate: {"learning_rate": 0.1, "weight_decay": 0.1},
    squared_norm_step: {
        "squared_norm": 1.0,
        "squared_gradient_norm": 1.0,
        "learning_rate": 0.1,
        "weight_decay": 0.1,
    },
    squared_norm_velocity: {
        "squared_norm": 1.0,
        "squared_gradient_norm": 1.0,
        "learning_rate": 0.1,
        "weight_decay": 0.1,
        "order": 1,
    },
    effective_learning_rate: {
        "radius": 1.0,
        "learning_rate": 0.1,
        "weight_decay": 0.1,
    },
    angular_update: {
        "gradient_norm": 1.0,
        "radius": 1.0,
        "learning_rate": 0.1,
        "weight_decay": 0.1,
    },
    equilibrium: {
        "spherical_gradient_norm": 1.0,
        "learning_rate": 0.1,
        "weight_decay": 0.1,
    },
    spiral_descent: {
        "start": [1.0, 0.0],
        "spherical_gradient_norm": 1.0,
        "learning_rate": 0.1,
        "weight_decay": 0.1,
        "steps": 2,
    },
    spiral_field: {
        "squared_norm": 1.0,
        "spherical_gradient_norm": 1.0,
        "learning_rate": 0.1,
        "weight_decay": 0.1,
        "order": 1,
    },
    spiral_flow: {
        "start": [1.0, 0.0],
        "spherical_gradient_norm": 1.0,
        "learning_rate": 0.1,
        "weight_decay": 0.1,
        "steps": 2,
        "order": 1,
    },
}

POSITIVE = (
    "learning_rate",
    "squared_norm",
    "radius",
    "spherical_gradient_norm",
)
NON_NEGATIVE = ("weight_decay", "squared_gradient_norm", "gradient_norm")
BAD = {
    **{name: (0.0, -1.0, math.nan, math.inf) for name in POSITIVE},
    **{name: (-1.0, math.nan, math.inf) for name in NON_NEGATIVE},
    "steps": (-1, 2.5),
    "order": (-1, 5, 1.0),
    "start": ([0.0, 0.0], [math.nan, 1.0], [1.0], [[1.0, 2.0]]),
}


@pytest.mark.parametrize(
    ("function", "name", "value"),
    [
        pytest.param(function, name, value, id=f"{function.__name__}-{name}-{value}")
        for function, arguments in GOOD.items()
        for name in arguments
        for value in BAD[name]
    ],
)
def test_bad_arguments_are_named(function, name, value):
    function(**GOOD[function])
    with pytest.raises(ValueError, match=rf"^{name} must be .*, got "):
        function(**{**GOOD[function], name: value})


@pytest.mark.parametrize(
    ("function", "order", "allowed"),
    [
        (decay_rate, -1, "from 0 to 100"),
        (decay_rate, 101, "from 0 to 100"),
        (decay_rate, 1.0, "from 0 to 100"),
        (squared_norm_velocity, 3, "from 0 to 2"),
        (equilibrium, 5, "from 1 to 4"),
        (equilibrium, -1, "from 1 to 4"),
        (equilibrium, 0, "gradient flow has no equilibrium"),
    ],
)
def test_each_function_names_its_orders(function, order, allowed):
    with pytest.raises(ValueError, match=rf"order must be .*{allowed}"):
        function(**{**GOOD[function], "order": order})


@pytest.mark.parametrize(
    "function", [decay_rate, effective_learning_rate, angular_update, equilibrium]
)
def test_gradient_descent_needs_decay_below_one(function):
    message = r"learning_rate \* weight_decay must be < 1, got learning_rate 2.0 and"
    with pytest.raises(ValueError, match=f"{message} weight_decay 0.5"):
        function(**{**GOOD[function], "learning_rate": 2.0, "weight_decay": 0.5})


def test_truncated_rates_exist_past_decay_one():
    assert decay_rate(2.0, 0.5, 1) == pytest.approx(0.75, rel=ROUNDING)
    assert equilibrium(1.0, 2.0, 0.5, 1)[0] > 0


def test_equilibrium_needs_weight_decay():
    with pytest.raises(ValueError, match="weight_decay must be finite and > 0, got 0"):
        equilibrium(1.0, 0.1, 0.0)


def test_second_order_norm_velocity_needs_the_curvature():
    with pytest.raises(ValueError, match=r"gradient_curvature must be .*, got None"):
        squared_norm_velocity(1.0, 1.0, 0.1, 0.1, 2)
