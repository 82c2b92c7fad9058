"""Exact series against computer algebra, identities of series, and densities."""

from fractions import Fraction

import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from fpbook import exact_series as module
from fpbook.callan_symanzik import running, static_flow
from fpbook.correlators import correlators
from fpbook.exact_series import moment_series, static_series


def value(series, g):
    return np.polyval([float(c) for c in series[::-1]], g)


def test_first_terms_by_hand():
    # <W^2> = 2 T t (1 - 4 x), <W^4> = 12 (T t)^2 (1 - 12 x) with x = g T t^2 is the
    # first correction to free diffusion: g_R = 12 x, beta = 2 g_R, gamma = 1/2 - 4 x.
    beta, gamma = moment_series(1)
    assert beta == [0, 2]
    assert gamma == [Fraction(1, 2), Fraction(-1, 3)]


def test_moments_by_integrals_over_time():
    t, order = sympy.Symbol("t", positive=True), 5
    moment = {}
    for j in range(order + 1):
        for n in range(2, 2 * (order - j) + 6, 2):
            below = 1 if n == 2 and j == 0 else moment.get((n - 2, j), 0)
            rate = n * (n - 1) * below - n * moment.get((n + 2, j - 1), 0)
            moment[n, j] = sympy.integrate(rate, (t, 0, t))
    x = sympy.Symbol("x")
    second, fourth = (
        sum(moment[n, j] * x**j for j in range(order + 1)).subs(t, 1) for n in (2, 4)
    )
    coupling = sympy.series(3 - fourth / second**2, x, 0, order + 1).removeO()
    slope = sympy.series(x * second.diff(x) / second, x, 0, order + 1).removeO()
    beta, gamma = moment_series(order)
    for series, direct in (
        (beta, 2 * x * coupling.diff(x)),
        (gamma, sympy.Rational(1, 2) + slope),
    ):
        composed = sum(
            sympy.Rational(c.numerator, c.denominator) * coupling**j
            for j, c in enumerate(series)
        )
        difference = sympy.Poly(sympy.expand(composed - direct), x)
        assert all(difference.coeff_monomial(x**j) == 0 for j in range(order + 1))


def test_static_series_by_gaussian_integrals():
    # With the ratio of Gamma functions for the Gaussian moments, and a as the variable.
    order, a, x = 4, sympy.Symbol("a", positive=True), sympy.Symbol("x")

    def unnormalised(n):
        return sum(
            (-x / 4) ** j
            / sympy.factorial(j)
            * sympy.factorial2(n + 4 * j - 1)
            * a ** (-sympy.Rational(n + 4 * j + 1, 2))
            for j in range(order + 1)
        )

    second, fourth = (unnormalised(n) / unnormalised(0) for n in (2, 4))
    coupling = 3 - fourth / second**2
    log_mass = -sympy.log(second) / 2
    beta = (coupling.diff(a) / log_mass.diff(a)).subs(a, 1)
    coupling = sympy.series(coupling.subs(a, 1), x, 0, order + 1).removeO()
    composed = sum(
        sympy.Rational(c.numerator, c.denominator) * coupling**j
        for j, c in enumerate(static_series(order))
    )
    beta = sympy.series(beta, x, 0, order + 1).removeO()
    difference = sympy.Poly(sympy.expand(composed - beta), x)
    assert all(difference.coeff_monomial(x**j) == 0 for j in range(order + 1))


def test_first_coefficients():
    # -4 is d - 4 in d = 0 dimensions.
    assert static_series(4) == [0, -4, 6, -12, 39]
    beta, gamma = moment_series(4)
    assert beta[2:] == [Fraction(-8, 3), Fraction(424, 315), Fraction(-1724, 945)]
    assert gamma[2:4] == [Fraction(-7, 45), Fraction(-7, 135)]


@given(st.integers(1, 8), st.integers(0, 4))
@settings(max_examples=15, deadline=None)
def test_longer_series_begin_with_the_shorter(order, more):
    for short, long in zip(
        moment_series(order), moment_series(order + more), strict=True
    ):
        assert long[: order + 1] == short
        assert all(isinstance(c, Fraction) for c in long)
    assert static_series(order + more)[: order + 1] == static_series(order)
    assert len(static_series(order)) == order + 1


coefficients = st.lists(st.fractions(-3, 3, max_denominator=7), min_size=4, max_size=7)


def composed(outer, inner):
    """Outer series of an inner one that starts at the first power (Horner)."""
    result = [Fraction(0)] * len(outer)
    for coefficient in reversed(outer):
        result = [
            sum(result[i] * inner[j - i] for i in range(j + 1))
            for j in range(len(outer))
        ]
        result[0] += coefficient
    return result


@given(coefficients, coefficients, st.fractions(1, 3, max_denominator=5))
def test_powers_of_a_series_undo_a_composition_with_it(tail, outer, first):
    size = min(len(tail), len(outer))
    series = [Fraction(0), first, *tail[:size]]
    outer = [Fraction(5, 7), Fraction(1), *outer[:size]]
    x = [Fraction(0), Fraction(1)] + [Fraction(0)] * size
    found, inverse, itself = module._in_powers_of(
        series, composed(outer, series), x, series
    )
    assert found == outer
    assert composed(series, inverse) == x
    assert itself == x


@given(coefficients)
def test_a_product_term_by_term(a):
    b = a[::-1]
    expected = [
        sum((a[i] * b[j - i] for i in range(j + 1)), Fraction(0)) for j in range(len(a))
    ]
    assert module._product(a, b) == expected


@given(coefficients)
def test_a_quotient_times_the_divisor(tail):
    divisor = [Fraction(2), *tail]
    dividend = [Fraction(1), *tail[::-1]]
    quotient = module._quotient(dividend, divisor)
    assert module._product(quotient, divisor) == dividend


def test_error_against_densities_has_the_next_power():
    errors, couplings = [], []
    for x in (0.004, 0.016):
        times = x**0.5 * np.geomspace(1 / 1.3, 1.3, 9)
        found = running(times, *correlators({4: 1.0}, 1.0, times, (2, 4)).T)
        g = found.coupling[4]
        beta, gamma = moment_series(3)
        couplings.append(g)
        errors.append(
            [value(beta, g) - found.beta[4], value(gamma, g) - found.gamma[4]]
        )
    power = np.diff(np.log(np.abs(errors)), axis=0)[0] / np.diff(np.log(couplings))[0]
    # 4 in the limit; the next term lowers beta's by 0.4 at these couplings.
    assert 3.3 < power[0] < 4.3
    assert 3.3 < power[1] < 4.7


@pytest.mark.parametrize("order", [2, 4])
def test_static_error_has_the_next_power(order):
    # The term after the next is a tenth of it; rounding is far below.
    found = static_flow([20.0, 30.0], 1.0, 1.0)
    error = value(static_series(order), found.coupling) - found.beta
    power = np.log(error[0] / error[1]) / np.log(found.coupling[0] / found.coupling[1])
    assert power == pytest.approx(order + 1, abs=0.2)


@pytest.mark.parametrize("function", [moment_series, static_series])
@pytest.mark.parametrize("order", [0, 2.5, 81])
def test_order_must_be_a_positive_integer(function, order):
    with pytest.raises(ValueError, match=r"^order must be .* from 1 to 80, got"):
        function(order)
