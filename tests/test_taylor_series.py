"""Truncated series against derivatives in high precision, identities, known series."""

import math

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fpbook.networks import ACTIVATIONS
from fpbook.taylor_series import (
    COMPOSITIONS,
    error_function,
    exponential,
    gaussian_linear_unit,
    hyperbolic_tangent,
    multiply,
    rectifier,
)

# Coefficients of order one from a few dozen products each.
ROUNDING = 1e-13

seeds = st.integers(0, 2**32 - 1)
orders = st.integers(0, 9)


def random_series(seed, order, *shape):
    """Coefficients that fall off, so that exponentials of them stay below e^5."""
    rng = np.random.default_rng(seed)
    decay = 0.8 ** np.arange(order + 1).reshape(-1, *[1] * len(shape))
    return torch.from_numpy(rng.uniform(-1, 1, size=(order + 1, *shape)) * decay)


def linear_series(order):
    """The series of s itself."""
    u = torch.zeros(order + 1, dtype=torch.float64)
    u[1] = 1
    return u


def assert_close(actual, expected, tolerance=ROUNDING):
    """Compare relative to the largest coefficient, at least 1."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    scale = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * scale)


# --- against differentiation in high precision --------------------------------------


def exact_gelu(u):
    return u * mpmath.ncdf(u)


EXACT = {
    exponential: mpmath.exp,
    error_function: mpmath.erf,
    hyperbolic_tangent: mpmath.tanh,
    gaussian_linear_unit: exact_gelu,
}


@pytest.mark.parametrize("compose", EXACT)
@pytest.mark.parametrize("seed", range(3))
def test_compositions_are_those_of_numerical_differentiation(compose, seed):
    u = random_series(seed, 7)
    coefficients = [mpmath.mpf(float(c)) for c in u.flip(0)]

    def along(s):
        return EXACT[compose](mpmath.polyval(coefficients, s))

    with mpmath.workdps(40):
        expected = [float(c) for c in mpmath.taylor(along, 0, 7)]
    assert_close(compose(u), expected)


def factorials(order):
    return np.array([math.factorial(k) for k in range(order + 1)])


def test_known_expansions_are_found():
    # To order 9, at the origin.
    s = linear_series(9)
    assert_close(exponential(s), 1 / factorials(9))
    tangent = [0, 1, 0, -1 / 3, 0, 2 / 15, 0, -17 / 315, 0, 62 / 2835]
    assert_close(hyperbolic_tangent(s), tangent)
    # erf = 2 / sqrt(pi) sum (-1)^j s^(2j+1) / (j! (2j+1)); Phi(s) from it.
    error = np.zeros(10)
    for j in range(5):
        error[2 * j + 1] = (-1) ** j / math.factorial(j) / (2 * j + 1)
    error *= 2 / math.sqrt(math.pi)
    assert_close(error_function(s), error)
    gelu = np.zeros(10)
    gelu[1:] = (error / 2 * 0.5 ** (np.arange(10) / 2))[:9]
    gelu[1] += 0.5
    assert_close(gaussian_linear_unit(s), gelu)


# --- identities ---------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(seed=seeds, order=orders)
def test_products_are_those_of_polynomials(seed, order):
    a, b = random_series(seed, order, 2), random_series(seed + 1, order, 2)
    product = multiply(a, b)
    for j in range(2):
        whole = np.convolve(a[:, j], b[:, j])
        assert_close(product[:, j], whole[: order + 1])


@settings(deadline=None, max_examples=25)
@given(seed=seeds, order=orders)
def test_exponentials_of_sums_are_products(seed, order):
    a, b = random_series(seed, order), random_series(seed + 1, order)
    product = multiply(exponential(a), exponential(b))
    # Both factors may be e^5, and the product one.
    assert_close(product, exponential(a + b), 1e-11)
    one = np.zeros(order + 1)
    one[0] = 1
    assert_close(multiply(exponential(a), exponential(-a)), one, 1e-11)


@settings(deadline=None, max_examples=25)
@given(seed=seeds, order=orders)
def test_tangents_add(seed, order):
    a, b = random_series(seed, order), random_series(seed + 1, order)
    first, second = hyperbolic_tangent(a), hyperbolic_tangent(b)
    both = multiply(first, second)
    both[0] += 1
    sums = multiply(hyperbolic_tangent(a + b), both)
    # Poles of tanh at a distance of order one make coefficients grow with the order.
    assert_close(sums, first + second, 1e-11)


@settings(deadline=None, max_examples=25)
@given(seed=seeds, order=st.integers(1, 9))
def test_slopes_of_compositions_obey_the_chain_rule(seed, order):
    u = random_series(seed, order)
    k = torch.arange(1, order + 1)
    slope, end = k * u[1:], slice(None, order)
    for compose, outer in (
        (exponential, exponential(u)),
        (error_function, 2 / math.sqrt(math.pi) * exponential(-multiply(u, u))),
    ):
        assert_close(k * compose(u)[1:], multiply(outer[end], slope), 1e-12)


@settings(deadline=None, max_examples=25)
@given(seed=seeds, order=orders)
def test_parities_are_those_of_the_functions(seed, order):
    u = random_series(seed, order, 3)
    for odd in (error_function, hyperbolic_tangent):
        assert_close(odd(-u), -odd(u))
    for unit in (gaussian_linear_unit, rectifier):
        assert_close(unit(u) - unit(-u), u)


@settings(deadline=None, max_examples=25)
@given(
    seed=seeds,
    order=orders,
    stretch=st.floats(-2, 2),
    name=st.sampled_from(sorted(COMPOSITIONS)),
)
def test_stretching_the_variable_stretches_coefficients(seed, order, stretch, name):
    u = random_series(seed, order)
    powers = torch.tensor(stretch, dtype=torch.float64) ** torch.arange(order + 1)
    compose = COMPOSITIONS[name]
    assert_close(compose(u * powers), compose(u) * powers)


# --- as activations of tensors ------------------------------------------------------


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_the_first_two_orders_are_an_activation_and_its_derivative(name):
    u = random_series(0, 1, 4, 5)
    activation = ACTIVATIONS[name]
    value, slope = COMPOSITIONS[name](u)
    assert_close(value, activation.function(u[0]))
    assert_close(slope, activation.derivative(u[0]) * u[1])


def test_every_activation_has_a_composition():
    assert set(COMPOSITIONS) == set(ACTIVATIONS)


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_elements_of_a_tensor_do_not_meet(name):
    compose, u = COMPOSITIONS[name], random_series(0, 5, 3, 4)
    before, together = u.clone(), COMPOSITIONS[name](u)
    for i in range(3):
        for j in range(4):
            assert_close(together[:, i, j], compose(u[:, i, j]))
    assert_close(compose(u[:4]), together[:4])
    assert torch.equal(u, before)


def test_rectifiers_keep_or_drop_a_whole_series():
    u = torch.tensor([[0.5, -0.5, 0.0], [-3.0, 4.0, 5.0]], dtype=torch.float64)
    expected = [[0.5, 0.0, 0.0], [-3.0, 0.0, 0.0]]
    np.testing.assert_array_equal(rectifier(u), expected)


def test_series_of_other_lengths_are_refused():
    a = torch.ones(3, 2).double()
    for b in (a[:2], torch.ones(4, 2).double()):
        with pytest.raises(ValueError, match="a and b must be of one order, got 3 and"):
            multiply(a, b)
