"""The Equation of Motion against exact algebra, closed forms and gradient descent.

Independent references: polynomial arithmetic over the rationals, with the operators
``D_f`` and with descent itself expanded in the learning rate; nested forward mode
through the recursion; finite differences of plain gradients; and losses whose
counter terms, invariants or flows are known in closed form.
"""

import math
import re
from fractions import Fraction
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sympy import QQ, ring
from torch import nn
from torch.func import grad, hessian, jvp
from torch.nn import functional

from fpbook import progress
from fpbook.equation_of_motion import (
    burst_field,
    counter_term_trees,
    equation_of_motion,
    flat_loss,
    gradient_descent,
    largest_learning_rate,
    leading_error,
    modified_equation,
)

torch.set_num_threads(1)

# A few hundred float64 operations on numbers of the size that the error is divided by.
ROUNDING = 1e-12

RING, X, Y = ring("x, y", QQ)
TWO_PARAMETERS = (X * Y - 1) ** 2 / 2 + X**2 * Y / 7 + X**3 / 9


def vector(*entries):
    return torch.tensor(entries, dtype=torch.float64)


def basin(theta):
    """Loss with Hessian eigenvalues 0.26 and 4.09 at ``BASIN_START``."""
    x, y = theta
    return (x * y - 1) ** 2 / 2 + x**2 * y / 7 + x**4 / 20 + y**2 / 10


BASIN_START = vector(1.6, -0.4)
HORIZON = 2.0


def in_torch(polynomial):
    """Write a polynomial as a loss of torch."""
    terms = [(e, float(c)) for e, c in polynomial.terms()]

    def loss(theta):
        total = 0 * theta.sum()
        for exponents, coefficient in terms:
            product = coefficient
            for entry, exponent in zip(theta, exponents, strict=True):
                if exponent:
                    product = product * entry**exponent
            total = total + product
        return total

    return loss


@st.composite
def polynomials(draw):
    """Draw a polynomial of degree 4 in two variables, exact in floating point too."""
    exponents = st.tuples(st.integers(0, 4), st.integers(0, 4)).filter(
        lambda e: 1 <= sum(e) <= 4
    )
    terms = draw(st.dictionaries(exponents, st.integers(-8, 8), min_size=1, max_size=6))
    drawn = RING.from_dict({e: QQ(c, 4) for e, c in terms.items() if c})
    assume(drawn != 0)
    return drawn


points = st.tuples(*[st.integers(-8, 8).map(lambda n: Fraction(n, 8))] * 2)
seeds = st.integers(0, 2**32 - 1)


@cache
def tanh_network(width=8, seed=0):
    """Mean squared error of a 2-width-width-1 tanh network on 32 points."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(32, 2, generator=generator, dtype=torch.float64)
    targets = torch.sin(inputs[:, :1]) * inputs[:, 1:]
    shapes = [(2, width), (width,), (width, width), (width,), (width, 1), (1,)]
    sizes = [math.prod(shape) for shape in shapes]

    def loss(theta):
        pieces = zip(theta.split(sizes), shapes, strict=True)
        w_1, b_1, w_2, b_2, w_3, b_3 = (piece.view(shape) for piece, shape in pieces)
        hidden = torch.tanh(torch.tanh(inputs @ w_1 + b_1) @ w_2 + b_2)
        return (hidden @ w_3 + b_3 - targets).square().mean()

    scales = torch.cat(
        [
            torch.full((size,), shape[0] ** -0.5 if len(shape) == 2 else 0.1)
            for size, shape in zip(sizes, shapes, strict=True)
        ]
    )
    noise = torch.randn(sum(sizes), generator=generator, dtype=torch.float64)
    return loss, scales * noise


def fitted_slope(steps, errors):
    return np.polyfit(np.log(steps), np.log(errors), 1)[0]


def largest_distance(path, other):
    return float((path - other).norm(dim=1).max())


def relative_error(measured, exact):
    with torch.no_grad():
        return float((measured - exact).norm() / exact.norm())


# --- exact algebra ------------------------------------------------------------------


def force(loss):
    return [-loss.diff(x) for x in RING.gens]


def multilinear(field, directions):
    """Evaluate ``field^(k)(v_1, .., v_k)`` on polynomials."""
    if not directions:
        return field
    first, *others = directions
    total = [RING.zero] * len(field)
    for x, entry in zip(RING.gens, first, strict=True):
        derivative = multilinear([c.diff(x) for c in field], others)
        total = [t + entry * d for t, d in zip(total, derivative, strict=True)]
    return total


def exact_counter_terms(field, order):
    """Sum the elementary differentials of ``counter_term_trees`` as polynomials."""
    known = {(): field}

    def differential(tree):
        if tree not in known:
            known[tree] = multilinear(field, [differential(child) for child in tree])
        return known[tree]

    terms = []
    for j in range(order + 1):
        total = [RING.zero] * len(field)
        for tree, c in counter_term_trees(j).items():
            coefficient = QQ(c.numerator, c.denominator)
            values = differential(tree)
            total = [t + coefficient * v for t, v in zip(total, values, strict=True)]
        terms.append(total)
    return terms


def lie_exponential(fields, top):
    """Powers 0 to ``top`` of eta in ``exp(eta D_F) id``, ``F = sum eta^j fields_j``."""
    nothing = [RING.zero] * len(RING.gens)
    term = [list(RING.gens)] + [nothing] * top
    total = list(term)
    for i in range(1, top + 1):
        following = [nothing] * (top + 1)
        for power, function in enumerate(term):
            for j, field in enumerate(fields):
                raised = power + j + 1
                if raised <= top:
                    derivative = multilinear(function, [field])
                    following[raised] = [
                        a + b / i
                        for a, b in zip(following[raised], derivative, strict=True)
                    ]
        term = following
        total = [
            [a + b for a, b in zip(t, s, strict=True)]
            for t, s in zip(total, term, strict=True)
        ]
    return total


def assert_flow_is_descent(loss, order):
    """``exp(eta D_F) id = id + eta f`` up to ``eta^(p+1)``; then it misses -f_(p+1)."""
    field = force(loss)
    *kept, first_dropped = exact_counter_terms(field, order + 1)
    step = lie_exponential(kept, order + 2)
    assert step[0] == list(RING.gens)
    assert step[1] == field
    for power in range(2, order + 2):
        assert step[power] == [RING.zero] * 2
    assert step[order + 2] == [-c for c in first_dropped]


@pytest.mark.parametrize("order", range(5))
def test_the_flow_of_the_modified_field_is_a_descent_step(order):
    assert_flow_is_descent(TWO_PARAMETERS, order)


@settings(deadline=None, max_examples=8)
@given(polynomials(), st.integers(0, 4))
def test_the_flow_is_a_descent_step_on_any_polynomial(loss, order):
    assert_flow_is_descent(loss, order)


def jet_counter_terms(loss, point, order):
    """``f_0 .. f_order`` at a point from descent expanded in the learning rate.

    With iterates ``z_m`` as exact power series in eta, ``f_j`` is the coefficient of
    ``eta^(j+1)`` in ``sum_m (-1)^(m+1) / m Delta^m z_0``. No trees, no differentials.
    """
    top = order + 2

    def times(a, b):
        return [sum(a[i] * b[k - i] for i in range(k + 1)) for k in range(top)]

    def evaluate(polynomial, arguments):
        total = [Fraction(0)] * top
        for exponents, c in polynomial.terms():
            product = [Fraction(int(c.numerator), int(c.denominator))]
            product += [Fraction(0)] * (top - 1)
            for argument, exponent in zip(arguments, exponents, strict=True):
                for _ in range(exponent):
                    product = times(product, argument)
            total = [t + p for t, p in zip(total, product, strict=True)]
        return total

    field = force(loss)
    start = [[Fraction(c), *[Fraction(0)] * (top - 1)] for c in point]
    iterates = [np.array(start, dtype=object)]
    for _ in range(order + 1):
        step = [evaluate(component, iterates[-1]) for component in field]
        following = iterates[-1].copy()
        following[:, 1:] += np.array(step, dtype=object)[:, :-1]  # times eta
        iterates.append(following)
    differences, logarithm = np.array(iterates), 0
    for m in range(1, order + 2):
        differences = np.diff(differences, axis=0)
        logarithm = logarithm + Fraction((-1) ** (m + 1), m) * differences[0]
    return logarithm[:, 1:].T


def size_of_derivatives(loss, point):
    """Largest entry of ``f`` and ``f'``, at least 1."""
    field = force(loss)
    entries = field + [c.diff(x) for c in field for x in RING.gens]
    return max(1.0, *(abs(float(entry(*point))) for entry in entries))


@settings(deadline=None, max_examples=40)
@given(polynomials(), points)
def test_counter_terms_agree_with_exact_descent(loss, point):
    exact = jet_counter_terms(loss, point, 4).astype(float)
    measured = modified_equation(in_torch(loss), vector(*map(float, point)), 4)
    # f_j is a sum of products of j + 1 derivatives of f; where they cancel, the error
    # is relative to the products. 1e-10 leaves 5 digits for some 10^3 operations.
    size = size_of_derivatives(loss, point)
    for j, (row, reference) in enumerate(zip(measured.numpy(), exact, strict=True)):
        atol = 1e-10 * size ** (j + 1)
        np.testing.assert_allclose(row, reference, rtol=0, atol=atol)


def test_trees_agree_with_exact_descent():
    point = (Fraction(7, 10), Fraction(2, 5))
    by_trees = exact_counter_terms(force(TWO_PARAMETERS), 5)
    by_descent = jet_counter_terms(TWO_PARAMETERS, point, 5)
    for row, reference in zip(by_trees, by_descent, strict=True):
        assert [Fraction(str(c(*point))) for c in row] == list(reference)


@pytest.mark.parametrize(
    ("derivatives", "values"),
    [
        # f = y^2 at y = 1: f = 1, f' = 2, f'' = 2, then 0.
        ((1, 2, 2, 0, 0, 0, 0), "1 -1 3/2 -8/3 31/6 -157/15 649/30"),
        # f = e^y at y = 0: every derivative is 1.
        ((1,) * 7, "1 -1/2 5/12 -5/12 107/240 -173/360 7577/15120"),
    ],
    ids=["square", "exponential"],
)
def test_scalar_values(derivatives, values):
    def differential(tree):
        return derivatives[len(tree)] * math.prod(map(differential, tree))

    computed = [
        sum(c * differential(tree) for tree, c in counter_term_trees(j).items())
        for j in range(7)
    ]
    assert computed == [Fraction(v) for v in values.split()]


def test_trees_are_counted_once_and_keep_their_zeros():
    tables = [counter_term_trees(j) for j in range(7)]
    assert [len(t) for t in tables] == [1, 1, 2, 4, 9, 20, 48]
    assert [list(t.values()).count(0) for t in tables] == [0, 0, 0, 1, 0, 4, 0]


def test_children_come_smallest_first():
    def nodes(tree):
        sizes = [nodes(child) for child in tree]
        assert sizes == sorted(sizes)
        return 1 + sum(sizes)

    # With 8 nodes, three leaves beside a chain tell size from alphabetical order.
    trees = counter_term_trees(7)
    assert len(trees) == 115
    assert {nodes(tree) for tree in trees} == {8}


def test_chains_and_bushes():
    bernoulli = [Fraction(b) for b in ("1", "-1/2", "1/6", "0", "-1/30", "0", "1/42")]
    chain = ()
    for j, number in enumerate(bernoulli):
        trees = counter_term_trees(j)
        assert trees[chain] == Fraction((-1) ** j, j + 1)
        assert trees[((),) * j] == number / math.factorial(j)
        chain = (chain,)


def test_fourth_counter_term_tree_by_tree():
    f = ()
    b = (f,)
    assert counter_term_trees(4) == {
        ((((f,),),),): Fraction(1, 5),
        (((f, f),),): Fraction(3, 40),
        ((f, b),): Fraction(1, 10),
        ((f, f, f),): Fraction(1, 180),
        (b, b): Fraction(1, 60),
        (f, (b,)): Fraction(1, 20),
        (f, (f, f)): Fraction(1, 120),
        (f, f, b): Fraction(-1, 120),
        (f, f, f, f): Fraction(-1, 720),
    }


def test_the_caller_may_change_the_trees():
    counter_term_trees(2).clear()
    assert len(counter_term_trees(2)) == 2


# --- counter terms of a network -----------------------------------------------------


def recursion_by_forward_mode(loss, order):
    """Fields ``f_0 .. f_order`` as nested derivatives, straight from the recursion."""

    def along(direction, function):
        return lambda theta: jvp(function, (theta,), (direction(theta),))[1]

    def compositions(total, parts):
        if parts == 1:
            yield (total,)
        else:
            for first in range(total + 1):
                for rest in compositions(total - first, parts - 1):
                    yield (first, *rest)

    def counter_term(j):
        def field(theta):
            total = torch.zeros_like(theta)
            for i in range(2, j + 2):
                for ks in compositions(j + 1 - i, i):
                    function = fields[ks[-1]]
                    for k in reversed(ks[:-1]):
                        function = along(fields[k], function)
                    total = total - function(theta) / math.factorial(i)
            return total

        return field

    fields = [lambda theta: -grad(loss)(theta)]
    fields += [counter_term(j) for j in range(1, order + 1)]
    return fields


# torch's own forward mode compiles its derivative formulas with torch.jit.
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_counter_terms_agree_with_nested_forward_mode():
    loss, theta = tanh_network(width=3)
    measured = modified_equation(loss, theta, 3)
    for row, field in zip(measured, recursion_by_forward_mode(loss, 3), strict=True):
        assert relative_error(row, field(theta)) < ROUNDING


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_leading_counter_term_is_half_the_hessian_times_the_gradient():
    loss, theta = tanh_network()
    f_0, f_1 = modified_equation(loss, theta, 1)
    assert relative_error(f_0, -grad(loss)(theta)) < ROUNDING
    assert relative_error(f_1, -hessian(loss)(theta) @ grad(loss)(theta) / 2) < ROUNDING


@pytest.mark.parametrize("learning_rate", [0.01, 0.3])
def test_first_order_follows_the_regularised_loss(learning_rate):
    loss, theta = tanh_network()

    def regularised(theta):
        return loss(theta) + learning_rate / 4 * grad(loss)(theta).square().sum()

    f_0, f_1 = modified_equation(loss, theta, 1)
    field = f_0 + learning_rate * f_1
    assert relative_error(field, -grad(regularised)(theta)) < ROUNDING
    # The modified loss is a loss like any other; its gradient is taken inside it.
    (again,) = modified_equation(regularised, theta, 0)
    assert relative_error(field, again) < ROUNDING


def test_a_loss_may_take_gradients_itself():
    loss, theta = tanh_network(width=3)

    def by_func(theta):
        return grad(loss)(theta).square().sum()

    def by_autograd(theta):
        (gradient,) = torch.autograd.grad(loss(theta), theta, create_graph=True)
        return gradient.square().sum()

    rows = modified_equation(by_func, theta, 2)
    # The same operations in the same order, up to how torch sums its contributions.
    assert relative_error(modified_equation(by_autograd, theta, 2), rows) < ROUNDING


def test_only_the_first_two_fields_are_gradients():
    # Curl at (0.7, 0.4), known to four digits from exact arithmetic.
    expected = [0.0, 0.0, 0.04498, 0.06574, 0.05225]
    loss = in_torch(TWO_PARAMETERS)
    h = 1e-3

    def fields(dx, dy):
        return modified_equation(loss, vector(0.7 + dx, 0.4 + dy), 4)

    along_x = (fields(h, 0) - fields(-h, 0)) / (2 * h)
    along_y = (fields(0, h) - fields(0, -h)) / (2 * h)
    curl = abs(along_x[:, 1] - along_y[:, 0]).numpy()
    # Central differences: h^2 times third derivatives of order 10.
    np.testing.assert_allclose(curl, expected, atol=3e-5)

    exact = [
        abs(float((b.diff(X) - a.diff(Y))(QQ(7, 10), QQ(2, 5))))
        for a, b in exact_counter_terms(force(TWO_PARAMETERS), 4)
    ]
    assert exact[:2] == [0, 0]
    np.testing.assert_allclose(exact, expected, atol=5e-6)  # the last digit given


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 4), seeds)
def test_quadratic_loss(size, seed):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(size, size))
    matrix = torch.from_numpy(root + root.T)
    theta = torch.from_numpy(rng.normal(size=size))
    norm = float(torch.linalg.matrix_norm(matrix, 2))
    rows = modified_equation(lambda t: t @ matrix @ t / 2, theta, 5)
    for j, row in enumerate(rows):
        exact = -torch.linalg.matrix_power(matrix, j + 1) @ theta / (j + 1)
        scale = norm ** (j + 1) * float(theta.norm())
        assert float((row - exact).norm()) < ROUNDING * scale


def test_other_leaves_of_the_graph_do_not_matter():
    weights = vector(1.0, 2.0).requires_grad_(True)
    theta = vector(0.5, -1.0)
    rows = modified_equation(lambda t: (weights * t * t).sum() / 2, theta, 3)
    w = weights.detach()
    exact = torch.stack([-(w ** (j + 1)) * theta / (j + 1) for j in range(4)])
    torch.testing.assert_close(rows, exact, rtol=ROUNDING, atol=0)
    assert weights.grad is None


def test_trees_with_coefficient_zero_are_not_evaluated():
    # At 0 the fourth derivative of the loss is infinite; f_3 does without it.
    rows = modified_equation(lambda t: (t.abs() ** 3.5 + t).sum(), vector(0.0), 3)
    assert rows.flatten().tolist() == [-1, 0, 0, 0]


def test_linear_loss_has_no_counter_terms():
    slope = vector(1.0, -2.0, 0.5)
    rows = modified_equation(lambda theta: slope @ theta, torch.zeros_like(slope), 3)
    assert torch.equal(rows[0], -slope)
    assert torch.count_nonzero(rows[1:]) == 0


def test_entries_that_do_not_matter_stay():
    loss, theta = tanh_network(width=3)
    padded = torch.cat([theta, vector(1.0, 2.0)])

    def padded_loss(t):
        return loss(t[:-2])

    rows = modified_equation(padded_loss, padded, 3)
    assert torch.count_nonzero(rows[:, -2:]) == 0
    assert relative_error(rows[:, :-2], modified_equation(loss, theta, 3)) < ROUNDING
    assert torch.equal(
        equation_of_motion(padded_loss, padded, 0.1, 3, 2)[:, -2:],
        padded[-2:].expand(4, 2),
    )


# --- symmetries ---------------------------------------------------------------------


@settings(deadline=None, max_examples=15)
@given(polynomials(), points, st.floats(0, 2 * math.pi))
def test_fields_turn_with_the_coordinates(loss, point, angle):
    c, s = math.cos(angle), math.sin(angle)
    turn = torch.tensor([[c, -s], [s, c]], dtype=torch.float64)
    original = in_torch(loss)
    theta = vector(*map(float, point))
    turned = modified_equation(lambda t: original(turn @ t), turn.T @ theta, 3)
    size = size_of_derivatives(loss, point)
    for j, row in enumerate(modified_equation(original, theta, 3)):
        # As in the comparison with exact descent: relative to products of derivatives.
        assert float((turned[j] - turn.T @ row).norm()) < 1e-10 * size ** (j + 1)


@settings(deadline=None, max_examples=15)
@given(seeds, st.integers(-3, 3))
def test_scaling_the_loss_rescales_time(seed, power):
    loss, theta = tanh_network(width=3, seed=seed % 100)
    factor = 2.0**power  # exact in floating point
    scaled = modified_equation(lambda t: factor * loss(t), theta, 3)
    for j, row in enumerate(modified_equation(loss, theta, 3)):
        assert relative_error(scaled[j], factor ** (j + 1) * row) < ROUNDING


def test_scaling_the_loss_and_the_learning_rate_keeps_the_states():
    path = equation_of_motion(basin, BASIN_START, 0.1, 10, 2)
    scaled = equation_of_motion(lambda t: 4 * basin(t), BASIN_START, 0.025, 10, 2)
    # Two integrations of tolerance 1e-11, one with other steps than the other.
    torch.testing.assert_close(scaled, path, rtol=0, atol=1e-10)


def test_separate_losses_have_separate_fields():
    first, theta = tanh_network(width=3)
    second, phi = tanh_network(width=3, seed=1)
    cut = theta.numel()
    joint = modified_equation(
        lambda t: first(t[:cut]) + second(t[cut:]), torch.cat([theta, phi]), 3
    )
    apart = [modified_equation(first, theta, 3), modified_equation(second, phi, 3)]
    assert relative_error(joint, torch.cat(apart, dim=1)) < ROUNDING


# --- closed forms -------------------------------------------------------------------


@settings(deadline=None, max_examples=20)
@given(
    st.floats(0.5, 2), st.floats(-3, 3), st.floats(-1, 1).filter(bool), st.floats(0, 1)
)
def test_spiral(radius, angle, c, decay):
    """Loss ``c * polar angle + decay * r^2 / 2``: all counter terms in closed form."""

    def loss(theta):
        return c * torch.atan2(theta[1], theta[0]) + decay * theta.square().sum() / 2

    theta = radius * vector(math.cos(angle), math.sin(angle))
    x, lam = radius**2, decay
    squared_radius = [
        -2 * lam * x,
        c**2 / x - lam**2 * x,
        -2 * lam**3 * x / 3,
        c**4 / (2 * x**3) - 2 * c**2 * lam**2 / (3 * x) - lam**4 * x / 2,
        -2 * c**2 * lam**3 / (3 * x) - 2 * lam**5 * x / 5,
    ]
    turning = [
        -c / x,
        0,
        -(c**3) / (6 * x**3) + c * lam**2 / (6 * x),
        c**3 * lam / (6 * x**3) + c * lam**3 / (6 * x),
        -(c**5) / (5 * x**5) + c**3 * lam**2 / (3 * x**3) + 2 * c * lam**4 / (15 * x),
    ]
    rows = modified_equation(loss, theta, 4)
    # Sizes: x >= 1/4 gives derivatives of f up to 4! / r^6 times the terms above.
    atol = 1e-10 * (1 + 1 / x**5)
    np.testing.assert_allclose(2 * rows @ theta, squared_radius, rtol=0, atol=atol)
    rotated = vector(-theta[1], theta[0])
    np.testing.assert_allclose(rows @ rotated / x, turning, rtol=0, atol=atol)


DECAY_TABLE = {
    0.5: (0.5, 0.625, 0.6667, 0.6823, 0.6885),
    1.0: (1, 1.5, 1.833, 2.083, 2.283),
    1.5: (1.5, 2.625, 3.75, 5.016, 6.534),
    1.9: (1.9, 3.705, 5.991, 9.249, 14.20),
}


# Only learning rate times curvature counts; a rate of 1 alone would hide its powers.
@pytest.mark.parametrize("rate", [1.0, 0.25])
@pytest.mark.parametrize("method", ["series", "burst"])
@pytest.mark.parametrize("order", range(5))
def test_decay_of_a_quadratic_mode(order, method, rate):
    curvature = vector(*DECAY_TABLE) / rate
    path = equation_of_motion(
        lambda t: (curvature * t**2).sum() / 2,
        torch.ones_like(curvature),
        learning_rate=rate,
        steps=1,
        order=order,
        method=method,
    )
    decay = -torch.log(path[1]).numpy()
    exact = [sum(x**m / m for m in range(1, order + 2)) for x in DECAY_TABLE]
    # The smallest mode ends at e^-14 = 7e-7; the absolute error stays below 1e-12.
    np.testing.assert_allclose(decay, exact, rtol=0, atol=2e-6)
    table = [values[order] for values in DECAY_TABLE.values()]
    np.testing.assert_allclose(decay, table, rtol=4e-4)  # four digits are given


@pytest.mark.parametrize("order", range(4))
def test_growing_and_decaying_modes_over_many_steps(order):
    curvature, eta, steps = vector(0.5, 2.0, -0.7), 0.3, 12
    path = equation_of_motion(
        lambda t: (curvature * t**2).sum() / 2,
        torch.ones(3).double(),
        eta,
        steps,
        order,
    )
    rate = sum((eta * curvature) ** m / m for m in range(1, order + 2))
    exact = torch.exp(-torch.arange(steps + 1)[:, None] * rate)
    # Local tolerance 1e-11, accumulated and amplified by the growth of e^2.5.
    torch.testing.assert_close(path, exact, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("rtol", [1e-5, 1e-8, 1e-11])
def test_states_between_the_integrator_steps_keep_the_tolerance(rtol):
    curvature = vector(0.3, 1.0, 2.5, 4.0)
    path = equation_of_motion(
        lambda t: (curvature * t**2).sum() / 2,
        torch.ones_like(curvature),
        learning_rate=0.01,
        steps=400,
        order=0,
        rtol=rtol,
        atol=rtol / 100,
    )
    times = 0.01 * torch.arange(401, dtype=torch.float64)[:, None]
    exact = torch.exp(-times * curvature)
    # The interpolant is the least accurate part: measured 1 to 2.3 times rtol.
    assert float((path - exact).abs().max()) < 10 * rtol


def test_the_integrator_is_of_order_eight():
    def evaluations(rtol):
        calls = 0

        def counted(theta):
            nonlocal calls
            calls += 1
            return basin(theta)

        equation_of_motion(counted, BASIN_START, 0.5, 20, 0, rtol=rtol, atol=rtol)
        return calls

    # Order q needs 10^(6/q) times the steps: 5.6 at order 8, 16 at 5, 100 at 3.
    assert evaluations(1e-11) < 9 * evaluations(1e-5)


def test_samples_per_step_refine_the_same_path():
    path = equation_of_motion(basin, BASIN_START, 0.1, 6, 2)
    fine = equation_of_motion(basin, BASIN_START, 0.1, 6, 2, samples_per_step=5)
    assert fine.shape == (31, 2)
    # The same integrator steps; the times agree to rounding.
    torch.testing.assert_close(fine[::5], path, rtol=0, atol=ROUNDING)
    curvature = vector(0.3, 2.0)
    halves = equation_of_motion(
        lambda t: (curvature * t**2).sum() / 2,
        torch.ones(2).double(),
        0.4,
        3,
        0,
        samples_per_step=2,
    )
    times = 0.2 * torch.arange(7, dtype=torch.float64)[:, None]
    torch.testing.assert_close(
        halves, torch.exp(-times * curvature), rtol=0, atol=1e-10
    )


@pytest.mark.parametrize("method", ["series", "burst"])
def test_no_step_is_the_start(method):
    path = equation_of_motion(basin, BASIN_START, 0.1, 0, 2, method=method)
    assert torch.equal(path, BASIN_START[None])
    assert torch.equal(gradient_descent(basin, BASIN_START, 0.1, 0), BASIN_START[None])
    assert torch.count_nonzero(leading_error(basin, BASIN_START, 0.1, 0, 1)) == 0


def test_two_short_flows_make_a_long_one():
    whole = equation_of_motion(basin, BASIN_START, 0.1, 8, 2)
    tail = equation_of_motion(basin, whole[3], 0.1, 5, 2)
    # Two integrations of tolerance 1e-11 on a contracting path.
    torch.testing.assert_close(tail, whole[3:], rtol=0, atol=1e-10)


def test_gradient_descent_steps_along_the_gradient():
    loss, theta = tanh_network(width=3)
    path = gradient_descent(loss, theta, 0.1, 5)
    for before, after in pairwise(path):
        assert torch.equal(after, before - 0.1 * grad(loss)(before))


# --- orders of accuracy -------------------------------------------------------------

# Largest distance to descent over t <= 2, N = 80, 160, 320; three digits were kept.
BASIN_ERRORS = [
    (1.27e-2, 6.26e-3, 3.10e-3),
    (7.56e-4, 1.86e-4, 4.63e-5),
    (5.87e-5, 7.21e-6, 8.93e-7),
    (5.16e-6, 3.16e-7, 1.95e-8),
    (4.81e-7, 1.47e-8, 4.55e-10),
]


def flow_errors(problem, counts, order, method="series"):
    # The integrator errs by about rtol / 4: below 1e-4 of the smallest distances,
    # 2e-3, 3e-5, 8e-7, 2e-8 (network and basin), and 5e-4 of 4.5e-10 at order 4.
    rtol = 1e-8 / 10.0**order
    errors = []
    for steps in counts:
        run = (*problem, HORIZON / steps, steps)
        flow = equation_of_motion(
            *run, order, method=method, rtol=rtol, atol=rtol / 100
        )
        errors.append(largest_distance(flow, gradient_descent(*run)))
    return np.array(errors)


@pytest.mark.parametrize("order", range(5))
def test_error_at_fixed_horizon(order):
    counts = np.array([80, 160, 320])
    errors = flow_errors((basin, BASIN_START), counts, order)
    np.testing.assert_allclose(errors, BASIN_ERRORS[order], rtol=4e-3)
    # The next order adds a relative eta: 0.02 for the fitted slope.
    assert fitted_slope(HORIZON / counts, errors) == pytest.approx(order + 1, abs=0.05)


@pytest.mark.parametrize("order", range(4))
def test_error_at_fixed_horizon_for_a_network(order):
    problem = tanh_network()
    assert problem[1].numel() >= 100
    counts = np.array([80, 160, 320])
    errors = flow_errors(problem, counts, order)
    assert fitted_slope(HORIZON / counts, errors) == pytest.approx(order + 1, abs=0.06)


@pytest.mark.parametrize("order", range(4))
def test_error_of_the_burst_at_fixed_horizon(order):
    # Larger constants than the series, hence larger corrections at equal eta.
    counts = np.array([160, 320, 640])
    errors = flow_errors((basin, BASIN_START), counts, order, method="burst")
    assert fitted_slope(HORIZON / counts, errors) == pytest.approx(order + 1, abs=0.08)


@pytest.mark.parametrize("order", range(5))
def test_error_of_one_step(order):
    etas = np.array([0.02, 0.01, 0.005])
    errors = []
    for eta in etas:
        run = (basin, BASIN_START, eta, 1)
        flow = equation_of_motion(*run, order, rtol=1e-13, atol=1e-15)
        errors.append(float((flow[1] - gradient_descent(*run)[1]).norm()))
    # The next order adds a relative eta lambda <= 0.1, a third of it to the slope.
    assert fitted_slope(etas, errors) == pytest.approx(order + 2, abs=0.1)


@pytest.mark.parametrize("order", range(1, 5))
def test_burst_and_series_differ_at_the_next_order(order):
    loss, theta = tanh_network()
    fields = modified_equation(loss, theta, order)
    etas = np.array([0.01, 0.005, 0.0025])
    errors = [
        relative_error(
            burst_field(loss, theta, eta, order),
            sum(eta**j * f for j, f in enumerate(fields)),
        )
        for eta in etas
    ]
    # Corrections of relative size eta lambda_max times p, here below 0.1.
    assert fitted_slope(etas, errors) == pytest.approx(order + 1, abs=0.1)


@pytest.mark.parametrize("order", range(1, 4))
def test_leading_difference_of_burst_and_series(order):
    # f = y^2 at y = 1: the burst misses (-1)^(p+1)/(p+2) D_f^(p+1) f = +-(p+1)!.
    eta, y = 1e-3, vector(1.0)

    def loss(theta):
        return -(theta**3).sum() / 3

    series = sum(eta**j * f for j, f in enumerate(modified_equation(loss, y, order)))
    difference = float(burst_field(loss, y, eta, order) - series) / eta ** (order + 1)
    next_term = float(modified_equation(loss, y, order + 1)[-1])
    expected = next_term - (-1) ** (order + 1) * math.factorial(order + 1)
    # Relative corrections of some ten eta.
    assert difference == pytest.approx(expected, rel=0.05)


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 4), seeds, st.integers(0, 4))
def test_burst_is_the_series_on_quadratic_losses(size, seed, order):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(size, size))
    matrix = torch.from_numpy(root + root.T)
    theta = torch.from_numpy(rng.normal(size=size))
    eta = 0.1

    def loss(t):
        return t @ matrix @ t / 2

    fields = modified_equation(loss, theta, order)
    series = sum(eta**j * f for j, f in enumerate(fields))
    burst = burst_field(loss, theta, eta, order)
    # Differences of iterates divided by eta: 2^order of them, each rounded.
    scale = 2.0**order * float(gradient_descent(loss, theta, eta, order).abs().max())
    assert float((burst - series).norm()) < ROUNDING * scale / eta


def test_integrated_burst_field_is_the_burst_field():
    loss, theta = tanh_network()
    path = equation_of_motion(loss, theta, 0.1, 1, 2, "burst", samples_per_step=1000)
    velocity = (4 * path[1] - path[2] - 3 * path[0]) / (2 * 0.1 / 1000)
    # One-sided differences over 1e-4: 1e-8 times third derivatives of order 10.
    assert relative_error(velocity, burst_field(loss, theta, 0.1, 2)) < 1e-6


def test_burst_of_order_zero_is_the_gradient():
    loss, theta = tanh_network()
    field = burst_field(loss, theta, 0.01, 0)
    # Rounding of theta, divided by the learning rate.
    assert relative_error(field, -grad(loss)(theta)) < ROUNDING / 0.01


# --- discretization error -----------------------------------------------------------


@pytest.mark.parametrize("order", range(4))
def test_leading_error_of_a_quadratic_loss(order):
    # Source h^(p+2) theta_k / (p+2), propagator 1 - eta h, theta_k = (1 - eta h)^k.
    curvature, eta = vector(0.5, 2.0, -0.7), 0.1
    error = leading_error(
        lambda t: (curvature * t**2).sum() / 2, torch.ones(3).double(), eta, 20, order
    )
    k = torch.arange(21, dtype=torch.float64)[:, None]
    exact = k * (1 - eta * curvature) ** (k - 1) * (eta * curvature) ** (order + 2)
    torch.testing.assert_close(error, exact / (order + 2), rtol=ROUNDING, atol=1e-16)


@cache
def predicted_and_true_error(network, steps, order):
    problem = tanh_network() if network else (basin, BASIN_START)
    run = (*problem, HORIZON / steps, steps)
    # Distances above 1e-7, known to 1e-4.
    flow = equation_of_motion(*run, order)
    return leading_error(*run, order), flow - gradient_descent(*run)


@pytest.mark.parametrize("network", [False, True], ids=["basin", "network"])
@pytest.mark.parametrize("order", range(3))
def test_leading_error_is_leading(order, network):
    mistakes = []
    for steps in (40, 80, 160):
        predicted, true = predicted_and_true_error(network, steps, order)
        mistakes.append(relative_error(predicted[-1], true[-1]))
    assert mistakes[-1] < 0.1
    ratios = [a / b for a, b in pairwise(mistakes)]
    # First order in eta; the next order bends the ratio by a relative eta.
    assert ratios == pytest.approx([2, 2], abs=0.3)


@pytest.mark.parametrize("order", range(3))
def test_without_the_propagator_the_error_is_far_too_long(order):
    steps = 160
    predicted, true = predicted_and_true_error(False, steps, order)
    eta = HORIZON / steps
    path = gradient_descent(basin, BASIN_START, eta, steps)
    source = [modified_equation(basin, theta, order + 1)[-1] for theta in path[:-1]]
    plain = -(eta ** (order + 2)) * torch.stack(source).sum(0)
    assert float(plain.norm() / true[-1].norm()) > 3
    assert float(predicted[-1].norm() / true[-1].norm()) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("order", range(3))
def test_largest_learning_rate_of_a_quadratic_loss(order):
    # |u| = h^(p+2) t e^(-h t) / (p+2) peaks at t = 1/h, on the grid: horizon 2/h.
    h, tolerance = 1.5, 1e-3
    peak = h ** (order + 1) / (math.e * (order + 2))
    rate = largest_learning_rate(
        lambda t: h * t.square().sum() / 2, vector(1.0), 2 / h, tolerance, order
    )
    # Local tolerance 1e-9.
    assert rate == pytest.approx((tolerance / peak) ** (1 / (order + 1)), rel=1e-7)


def test_largest_learning_rate_looks_at_the_whole_path():
    # Long after t = 1/h the error has decayed; only the maximum counts.
    rates = [
        largest_learning_rate(
            lambda t: 1.5 * t.square().sum() / 2, vector(1.0), horizon, 1e-3, 0
        )
        for horizon in (2 / 1.5, 12 / 1.5)
    ]
    # The maximum lies within 12 / 1.5 / 1024 of a sample: relative error 1e-4.
    assert rates[0] == pytest.approx(rates[1], rel=2e-4)


@pytest.mark.parametrize(
    ("order", "tolerance"),
    [(0, 1e-2), (0, 1e-3), (1, 1e-3), (1, 1e-4), (2, 1e-3), (2, 1e-4)],
)
def test_largest_learning_rate_is_bracketed(order, tolerance):
    predicted = largest_learning_rate(basin, BASIN_START, HORIZON, tolerance, order)

    def too_large(steps):
        run = (basin, BASIN_START, HORIZON / steps, steps)
        flow = equation_of_motion(*run, order, rtol=1e-9, atol=1e-11)
        return largest_distance(flow, gradient_descent(*run)) > tolerance

    # Leading order, optimistic by a relative eta on this basin: the true limit is 0.85
    # to 1 times it, as the rates at both ends tell.
    assert too_large(math.ceil(HORIZON / predicted) - 1)
    assert not too_large(math.floor(HORIZON / (0.85 * predicted)))


def test_no_leading_error_allows_any_learning_rate():
    rate = largest_learning_rate(
        lambda t: t.square().sum(), torch.zeros(2).double(), 1.0, 0.1, 1
    )
    assert rate == math.inf


# --- conservation laws --------------------------------------------------------------


def softmax_head(decay=0.0):
    """Cross-entropy of three classes; the mean over classes is a flat direction."""
    generator = torch.Generator().manual_seed(5)
    inputs = torch.randn(16, 3, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 3, (16,), generator=generator)
    theta = torch.randn(24, generator=generator, dtype=torch.float64)

    def loss(theta):
        hidden = torch.tanh(inputs @ theta[:12].view(3, 4))
        logits = hidden @ theta[12:].view(4, 3)
        return (
            functional.cross_entropy(logits, labels) + decay * theta.square().sum() / 2
        )

    return loss, theta


def class_means(states):
    return states[..., 12:].unflatten(-1, (4, 3)).mean(-1)


@pytest.mark.parametrize("method", ["series", "burst"])
@pytest.mark.parametrize("order", range(4))
def test_a_linear_invariant_is_conserved(order, method):
    loss, theta = softmax_head()
    path = equation_of_motion(loss, theta, 0.2, 8, order, method, rtol=1e-6, atol=1e-8)
    start = class_means(theta).expand(9, 4)
    # Runge-Kutta methods conserve linear invariants to rounding at any tolerance;
    # the burst divides the rounding of its differences by the learning rate.
    torch.testing.assert_close(class_means(path), start, rtol=0, atol=1e-12)
    assert float((path[-1] - theta).norm()) > 0.1
    descent = gradient_descent(loss, theta, 0.2, 8)
    torch.testing.assert_close(class_means(descent), start, rtol=0, atol=1e-13)


@pytest.mark.parametrize("order", range(4))
def test_decay_of_a_linear_invariant(order):
    decay, eta, steps = 0.5, 0.2, 8
    loss, theta = softmax_head(decay)
    means = class_means(theta)
    rows = class_means(modified_equation(loss, theta, order))
    for j, row in enumerate(rows):
        assert relative_error(row, -(decay ** (j + 1)) / (j + 1) * means) < ROUNDING
    path = class_means(equation_of_motion(loss, theta, eta, steps, order))
    rate = sum((eta * decay) ** m / m for m in range(1, order + 2))
    k = torch.arange(steps + 1, dtype=torch.float64)[:, None]
    # Tolerance 1e-11 of the integrator, 10 over the steps.
    torch.testing.assert_close(path, torch.exp(-rate * k) * means, rtol=0, atol=1e-10)
    descent = class_means(gradient_descent(loss, theta, eta, steps))
    torch.testing.assert_close(
        descent, (1 - eta * decay) ** k * means, rtol=ROUNDING, atol=0
    )


def normalised(z):
    return (z - z.mean(0)) / z.var(0, unbiased=False).sqrt()


def test_scale_invariant_weights():
    loss, theta = normalised_network(normalised)
    f_0, f_1 = modified_equation(loss, theta, 1)[:, :WEIGHTS].unflatten(1, (6, 3))
    weights = theta[:WEIGHTS].view(6, 3)
    size = weights.norm(dim=1) * f_0.norm(dim=1)
    assert float(((weights * f_0).sum(1).abs() / size).max()) < ROUNDING
    growth = 2 * (weights * f_1).sum(1)
    torch.testing.assert_close(growth, f_0.square().sum(1), rtol=1e-10, atol=0)
    # Gradient flow conserves each norm; here the integrator errs, so its tolerance.
    flow = equation_of_motion(loss, theta, 0.1, 5, 0)[:, :WEIGHTS].unflatten(1, (6, 3))
    norms = flow.norm(dim=2)
    torch.testing.assert_close(norms, norms[:1].expand(6, 6), rtol=0, atol=1e-9)
    descent = gradient_descent(loss, theta, 0.1, 5)[:, :WEIGHTS].unflatten(1, (6, 3))
    assert bool((descent.norm(dim=2).diff(dim=0) > 0).all())


# --- fused normalisations of torch --------------------------------------------------

WEIGHTS = 18


def normalised_network(normalise, seed=0):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(16, 3, generator=generator, dtype=torch.float64)
    targets = torch.randn(16, 2, generator=generator, dtype=torch.float64)
    theta = torch.randn(WEIGHTS + 12, generator=generator, dtype=torch.float64)

    def loss(theta):
        hidden = normalise(inputs @ theta[:WEIGHTS].view(6, 3).T)
        return functional.mse_loss(
            torch.tanh(hidden) @ theta[WEIGHTS:].view(6, 2), targets
        )

    return loss, theta


def weight_normalised_network():
    loss, theta = normalised_network(nn.Identity())
    lengths = vector(0.5, 0.8, 1.1, 1.4, 1.7, 2.0).view(6, 1)

    def weight_normalised_loss(theta):
        rows = torch._weight_norm(theta[:WEIGHTS].view(6, 3), lengths, 0)
        return loss(torch.cat([rows.flatten(), theta[WEIGHTS:]]))

    return weight_normalised_loss, theta


def fused_batch_norm(z):
    return functional.batch_norm(z, None, None, training=True)


def fused_layer_norm(z):
    return functional.layer_norm(z, (6,))


SETTLED_MEAN = vector(-0.5, -0.3, -0.1, 0.1, 0.3, 0.5)
SETTLED_VARIANCE = vector(0.5, 0.8, 1.1, 1.4, 1.7, 2.0)


def settled_batch_norm(z):
    return functional.batch_norm(z, SETTLED_MEAN, SETTLED_VARIANCE)


# Central differences of order 6; the coefficients of f(theta +- k h v), k = 1, 2, 3.
FIRST = (3 / 4, -3 / 20, 1 / 60)
SECOND = (3 / 2, -3 / 20, 1 / 90)
STEP = 0.01


def force_at(loss, theta):
    return -torch.func.grad(loss)(theta)


def first_difference(loss, theta, v):
    """``f'(v)`` from gradients alone."""
    h = STEP / v.norm()
    pairs = enumerate(FIRST, start=1)
    total = sum(
        c * (force_at(loss, theta + k * h * v) - force_at(loss, theta - k * h * v))
        for k, c in pairs
    )
    return total / h


def second_difference(loss, theta, v):
    """``f''(v, v)`` from gradients alone."""
    h = STEP / v.norm()
    total = -2 * sum(SECOND) * force_at(loss, theta)
    for k, c in enumerate(SECOND, start=1):
        total = total + c * force_at(loss, theta + k * h * v)
        total = total + c * force_at(loss, theta - k * h * v)
    return total / h**2


def counter_terms_from_gradients(loss, theta):
    f = force_at(loss, theta)
    chain = first_difference(loss, theta, f)
    longer = first_difference(loss, theta, chain)
    return -chain / 2, longer / 3 + second_difference(loss, theta, f) / 12


# Truncation (1e-2)^6 times eighth derivatives, rounding 1e-16 / h^2: measured below
# 1e-8 (group norm 1e-6, whose groups of three entries are sharply curved).
DIFFERENCES = 1e-5


@pytest.mark.parametrize(
    "layer",
    [
        nn.Identity(),
        normalised,
        nn.GELU(),
        nn.Softplus(),
        nn.SiLU(),
        nn.LogSoftmax(dim=1),
        nn.GroupNorm(1, 6).double(),
        nn.RMSNorm(6).double(),
    ],
    ids=lambda layer: getattr(layer, "__name__", type(layer).__name__),
)
def test_counter_terms_agree_with_finite_differences(layer):
    loss, theta = normalised_network(layer)
    _, f_1, f_2 = modified_equation(loss, theta, 2)
    by_gradients = counter_terms_from_gradients(loss, theta)
    assert relative_error(f_1, by_gradients[0]) < DIFFERENCES
    assert relative_error(f_2, by_gradients[1]) < DIFFERENCES


FUSED = {
    # name: problem, first counter term that torch gets wrong
    "batch_norm": (normalised_network(fused_batch_norm), 2),
    "layer_norm": (normalised_network(fused_layer_norm), 2),
    "weight_norm": (weight_normalised_network(), 1),
}


@pytest.mark.parametrize("name", FUSED)
def test_fused_normalisations_are_refused_where_torch_is_wrong(name):
    problem, first_wrong = FUSED[name]
    refused = pytest.raises(ValueError, match=f"fused {name}: torch returns wrong")
    for order in range(first_wrong, 4):
        with refused:
            modified_equation(*problem, order)
        with refused:
            equation_of_motion(*problem, 0.01, 1, order)
        with refused:
            leading_error(*problem, 0.01, 1, order - 1)
        with refused:
            largest_learning_rate(*problem, 0.1, 0.1, order - 1)


@pytest.mark.parametrize("name", FUSED)
def test_fused_normalisations_are_allowed_where_torch_is_right(name):
    (loss, theta), first_wrong = FUSED[name]
    rows = modified_equation(loss, theta, first_wrong - 1)
    if first_wrong == 2:
        f_1, _ = counter_terms_from_gradients(loss, theta)
        assert relative_error(rows[1], f_1) < DIFFERENCES
        leading_error(loss, theta, 0.01, 1, 0)
        assert 0 < largest_learning_rate(loss, theta, 0.1, 0.1, 0) < math.inf
    eta = 0.01
    flow = equation_of_motion(loss, theta, eta, 1, first_wrong - 1)
    descent = gradient_descent(loss, theta, eta, 1)
    burst = equation_of_motion(loss, theta, eta, 1, 3, method="burst")
    errors = [float((path[1] - descent[1]).norm()) for path in (flow, burst)]
    # One step errs by eta^(p+2): the burst of order 3 gains two or three orders.
    assert errors[1] < 0.1 * errors[0]


def test_fused_normalisation_inside_a_larger_fused_layer_is_seen():
    # Without gradients torch fuses the whole layer, norm included, into one call.
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True).eval()
    loss, theta = flat_loss(
        layer, torch.randn(3, 2, 4), torch.randn(3, 2, 4), functional.mse_loss
    )
    with pytest.raises(ValueError, match="fused layer_norm"):
        modified_equation(loss, theta, 2)


def derivative_by_torch(loss, theta, v, times):
    """``f^(k)(v, .., v)`` by repeated reverse mode, unguarded."""
    theta = theta.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(loss(theta), theta, create_graph=True)
    for _ in range(times):
        (gradient,) = torch.autograd.grad(gradient, theta, v, create_graph=True)
    return -gradient.detach()


@pytest.mark.parametrize("name", FUSED)
def test_torch_is_still_wrong_about_fused_normalisations(name):
    (loss, theta), first_wrong = FUSED[name]
    v = torch.linspace(-1, 1, theta.numel(), dtype=torch.float64)
    difference = (first_difference, second_difference)[first_wrong - 1]
    reference = difference(loss, theta, v)
    try:
        measured = derivative_by_torch(loss, theta, v, first_wrong)
    except (RuntimeError, NotImplementedError) as error:
        pytest.fail(
            f"good news: torch {torch.__version__} now raises instead of returning "
            f"wrong derivatives of the fused {name} ({error}). Drop it from "
            "WRONG_COUNTER_TERM in fpbook/equation_of_motion.py if that error is clear."
        )
    # Measured 0.08 to 1.4; finite differences are right to 1e-8.
    assert relative_error(measured, reference) > 1e-3, (
        f"good news: torch {torch.__version__} now differentiates the fused {name} "
        "correctly. Drop it from WRONG_COUNTER_TERM in fpbook/equation_of_motion.py."
    )


def test_torch_is_right_about_batch_norm_in_evaluation_mode():
    # An affine map; refused all the same, because it is the same operation.
    loss, theta = normalised_network(settled_batch_norm)
    v = torch.linspace(-1, 1, theta.numel(), dtype=torch.float64)
    for times, difference in ((1, first_difference), (2, second_difference)):
        measured = derivative_by_torch(loss, theta, v, times)
        assert relative_error(measured, difference(loss, theta, v)) < DIFFERENCES

    h = STEP / v.norm()
    third = (
        derivative_by_torch(loss, theta + h * v, v, 2)
        - derivative_by_torch(loss, theta - h * v, v, 2)
    ) / (2 * h)
    # Central differences of second order: h^2 = 1e-4.
    assert relative_error(derivative_by_torch(loss, theta, v, 3), third) < 1e-2


# --- losses from modules ------------------------------------------------------------


class TiedLayers(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(torch.tanh(self.first(x)))


@pytest.mark.parametrize(
    ("module", "targets", "criterion"),
    [
        (
            nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)),
            "real",
            functional.mse_loss,
        ),
        (nn.Sequential(nn.Linear(4, 3), nn.Tanh()), "labels", functional.cross_entropy),
        (
            nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)),
            "labels",
            functional.cross_entropy,
        ),
        (TiedLayers(), "wide", functional.mse_loss),
    ],
    ids=["regression", "classification", "buffers", "tied"],
)
def test_flat_loss_is_the_module_and_the_criterion(module, targets, criterion):
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(7, 4, generator=generator)
    targets = {
        "real": torch.randn(7, 2, generator=generator),
        "wide": torch.randn(7, 4, generator=generator),
        "labels": torch.randint(0, 3, (7,), generator=generator),
    }[targets]
    before = {k: v.clone() for k, v in module.state_dict().items()}
    loss, theta = flat_loss(module, inputs, targets, criterion)
    value = loss(theta)
    gradient_descent(loss, theta, 0.1, 2)

    after = module.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert all(before[k].dtype == after[k].dtype for k in before)
    assert all(p.grad is None for p in module.parameters())
    assert theta.dtype == value.dtype == torch.float64
    assert not theta.requires_grad
    assert torch.equal(loss(theta), value)

    exact = module.double()  # the reference: torch's own optimisation loop
    targets = targets.double() if targets.is_floating_point() else targets
    reference = criterion(exact(inputs.double()), targets)
    gradients = torch.autograd.grad(reference, list(exact.parameters()))
    flat = torch.cat([g.flatten() for g in gradients])
    assert float(value - reference.detach()) == pytest.approx(0, abs=1e-15)
    assert relative_error(-modified_equation(loss, theta, 0)[0], flat) < ROUNDING


def test_flat_loss_keeps_whole_numbers():
    network = nn.Sequential(nn.Embedding(5, 2), nn.Linear(2, 3))
    words = torch.tensor([0, 1, 4, 2])
    loss, theta = flat_loss(
        network, words, torch.tensor([0, 1, 2, 0]), functional.cross_entropy
    )
    assert theta.shape == (19,)
    rows = modified_equation(loss, theta, 1)
    unused = slice(6, 8)  # the word 3 does not occur
    assert torch.count_nonzero(rows[:, unused]) == 0
    assert float(rows.norm()) > 0


def test_flat_loss_needs_parameters():
    with pytest.raises(ValueError, match="module has no parameters"):
        flat_loss(nn.Tanh(), torch.ones(2, 2), torch.ones(2, 2), functional.mse_loss)


# --- what theta may be --------------------------------------------------------------


@pytest.mark.parametrize("context", [torch.no_grad, torch.enable_grad])
def test_theta_is_read_only(context):
    loss, theta = tanh_network(width=3)
    reference = modified_equation(loss, theta, 2)
    strided = torch.stack([theta, theta], dim=1)[:, 0]
    assert not strided.is_contiguous()
    for given_theta in (theta.clone().requires_grad_(True), strided):
        before = given_theta.detach().clone()
        with context():
            results = [
                modified_equation(loss, given_theta, 2),
                burst_field(loss, given_theta, 0.1, 2),
                gradient_descent(loss, given_theta, 0.1, 2),
                equation_of_motion(loss, given_theta, 0.1, 2, 1),
                leading_error(loss, given_theta, 0.1, 2, 1),
            ]
        assert torch.equal(results[0], reference)
        assert not any(result.requires_grad for result in results)
        assert torch.equal(given_theta, before)
        assert given_theta.grad is None


def test_the_path_does_not_share_memory_with_theta():
    theta = BASIN_START.clone()
    for path in (
        gradient_descent(basin, theta, 0.1, 1),
        equation_of_motion(basin, theta, 0.1, 1, 0),
    ):
        path.zero_()
    assert torch.equal(theta, BASIN_START)


# --- errors -------------------------------------------------------------------------

EVERY_FUNCTION = [
    pytest.param(
        lambda loss, theta: gradient_descent(loss, theta, 0.1, 1), id="descent"
    ),
    pytest.param(lambda loss, theta: modified_equation(loss, theta, 0), id="modified"),
    pytest.param(lambda loss, theta: burst_field(loss, theta, 0.1, 0), id="burst"),
    pytest.param(
        lambda loss, theta: equation_of_motion(loss, theta, 0.1, 1, 0), id="eom"
    ),
    pytest.param(lambda loss, theta: leading_error(loss, theta, 0.1, 1, 0), id="error"),
    pytest.param(
        lambda loss, theta: largest_learning_rate(loss, theta, 1.0, 0.1, 0),
        id="largest",
    ),
]


def square(theta):
    return theta.square().sum()


@pytest.mark.parametrize("function", EVERY_FUNCTION)
@pytest.mark.parametrize(
    ("theta", "message"),
    [
        (torch.ones(2), "theta0? must be float64, got torch.float32"),
        (torch.ones(2, dtype=torch.int64), "theta0? must be float64, got torch.int64"),
        (torch.ones(2, 2).double(), r"theta0? must have shape \(P,\).*got \(2, 2\)"),
        (torch.tensor(1.0).double(), r"theta0? must have shape \(P,\).*got \(\)"),
        (torch.ones(0).double(), r"theta0? must have shape \(P,\).*got \(0,\)"),
        (vector(1.0, math.nan), "theta0? must be finite"),
        (vector(1.0, math.inf), "theta0? must be finite"),
        (np.ones(2), "theta0? must be a torch tensor.*got ndarray"),
        ([1.0, 2.0], "theta0? must be a torch tensor.*got list"),
    ],
)
def test_bad_theta(function, theta, message):
    with pytest.raises(ValueError, match=message):
        function(square, theta)


@pytest.mark.parametrize("function", EVERY_FUNCTION)
@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda theta: theta**2, r"scalar tensor of shape \(\), got \(2,\)"),
        (lambda theta: square(theta)[None], r"scalar tensor of shape \(\), got \(1,\)"),
        (lambda theta: float(square(theta.detach())), "scalar tensor.*float"),
        (
            lambda theta: square(theta).float(),
            "loss must return float64, got .*float32",
        ),
        (lambda theta: square(theta.detach()), "loss must depend on theta"),
        (lambda theta: torch.tensor(1.0).double(), "loss must depend on theta"),
    ],
    ids=["vector", "one entry", "number", "float32", "detached", "constant"],
)
def test_bad_loss(function, loss, message):
    with pytest.raises(ValueError, match=message):
        function(loss, vector(1.0, 2.0))


@pytest.mark.parametrize("value", [0, -0.1, math.nan, math.inf, -math.inf])
def test_bad_positive_numbers(value):
    theta = vector(1.0)
    with pytest.raises(ValueError, match="learning_rate must be finite and > 0"):
        gradient_descent(square, theta, value, 1)
    with pytest.raises(ValueError, match="learning_rate must be finite and > 0"):
        burst_field(square, theta, value, 1)
    with pytest.raises(ValueError, match="learning_rate must be finite and > 0"):
        equation_of_motion(square, theta, value, 1, 1)
    with pytest.raises(ValueError, match="learning_rate must be finite and > 0"):
        leading_error(square, theta, value, 1, 1)
    for name in ("rtol", "atol"):
        with pytest.raises(ValueError, match=f"{name} must be finite and > 0"):
            equation_of_motion(square, theta, 0.1, 1, 1, **{name: value})
    with pytest.raises(ValueError, match="horizon must be finite and > 0"):
        largest_learning_rate(square, theta, value, 0.1, 1)
    with pytest.raises(ValueError, match="tolerance must be finite and > 0"):
        largest_learning_rate(square, theta, 1.0, value, 1)


@pytest.mark.parametrize("value", [-1, 1.0, 0.5, True, False, "1", None])
def test_bad_counts(value):
    theta = vector(1.0)
    steps = pytest.raises(ValueError, match="steps must be an integer >= 0, got")
    order = pytest.raises(ValueError, match="order must be an integer >= 0, got")
    with steps:
        gradient_descent(square, theta, 0.1, value)
    with steps:
        equation_of_motion(square, theta, 0.1, value, 1)
    with steps:
        leading_error(square, theta, 0.1, value, 1)
    with order:
        counter_term_trees(value)
    with order:
        modified_equation(square, theta, value)
    with order:
        burst_field(square, theta, 0.1, value)
    with order:
        equation_of_motion(square, theta, 0.1, 1, value)
    with order:
        leading_error(square, theta, 0.1, 1, value)
    with order:
        largest_learning_rate(square, theta, 1.0, 0.1, value)


def test_counts_may_come_from_numpy():
    two = np.int64(2)
    for order in (2, two):
        assert counter_term_trees(order) == counter_term_trees(2)
    pairs = [
        (gradient_descent, (0.1, 2), (0.1, two)),
        (modified_equation, (2,), (two,)),
        (burst_field, (0.1, 2), (0.1, two)),
        (equation_of_motion, (0.1, 2, 2), (0.1, two, two)),
        (leading_error, (0.1, 2, 2), (0.1, two, two)),
    ]
    for function, plain, numpy in pairs:
        expected = function(basin, BASIN_START, *plain)
        assert torch.equal(function(basin, BASIN_START, *numpy), expected)


@pytest.mark.parametrize("value", [0, -1, 1.5, True])
def test_bad_samples_per_step(value):
    with pytest.raises(ValueError, match="samples_per_step must be"):
        equation_of_motion(square, vector(1.0), 0.1, 1, 1, samples_per_step=value)


@pytest.mark.parametrize("method", ["Series", "newton", "", None])
def test_bad_method(method):
    with pytest.raises(ValueError, match="method must be 'series' or 'burst', got"):
        equation_of_motion(square, vector(1.0), 0.1, 1, 1, method=method)


def test_diverging_descent_names_the_step():
    y, step = 10.0, 0
    while math.isfinite(y):
        y, step = y - 0.5 * 4 * y * y * y, step + 1

    def quartic(theta):
        return (theta**4).sum()

    start = vector(10.0)
    diverges = pytest.raises(FloatingPointError, match=f"not finite at step {step} ")
    assert torch.isfinite(gradient_descent(quartic, start, 0.5, step - 1)).all()
    with diverges:
        gradient_descent(quartic, start, 0.5, 50)
    with diverges:
        leading_error(quartic, start, 0.5, 50, 0)
    with diverges:
        burst_field(quartic, start, 0.5, step)


@pytest.mark.parametrize(
    ("loss", "start"),
    [(lambda y: -(y**3).sum() / 3, 1.0), (lambda y: -y.exp().sum(), 0.0)],
    ids=["square", "exponential"],
)
def test_a_flow_that_ends_names_the_time(loss, start):
    # y' = y^2 from 1 and y' = e^y from 0 both reach infinity at t = 1.
    with pytest.raises(
        FloatingPointError, match="integration failed at t = "
    ) as caught:
        equation_of_motion(loss, vector(start), 0.1, 20, 0)
    (time,) = re.findall(r"t = ([0-9.e+-]+):", str(caught.value))
    # Tolerance 1e-11, but the last digits of y move the end of a flow.
    assert float(time) == pytest.approx(1, abs=1e-6)
    with pytest.raises(FloatingPointError, match="integration failed at t = "):
        largest_learning_rate(loss, vector(start), 2.0, 0.1, 0)
    # Just short of it the flow exists and is right.
    path = equation_of_motion(loss, vector(start), 0.1, 9, 0)
    exact = 1 / 0.1 if start else math.log(1 / 0.1)
    assert float(path[-1]) == pytest.approx(exact, rel=1e-8)


def test_infinite_field_at_the_start():
    def root(theta):
        return theta.sqrt().sum()

    with pytest.raises(FloatingPointError, match=r"field is not finite at t = 0\.0"):
        equation_of_motion(root, vector(0.0), 0.1, 1, 0)
    with pytest.raises(FloatingPointError, match=r"field is not finite at t = 0\.0"):
        equation_of_motion(root, vector(0.0), 0.1, 1, 1, method="burst")
    with pytest.raises(FloatingPointError, match="not finite at step 1"):
        burst_field(root, vector(0.0), 0.1, 1)


# --- progress -----------------------------------------------------------------------


class RecordingBar:
    def __init__(self, total, description):
        self.total, self.description, self.done, self.closed = total, description, 0, 0

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.closed += 1

    def update(self, amount):
        self.done += amount


def test_bars_reach_their_total(monkeypatch):
    bars = []

    def bar(total, description):
        bars.append(RecordingBar(total, description))
        return bars[-1]

    monkeypatch.setattr(progress, "bar", bar)
    gradient_descent(basin, BASIN_START, 0.1, 7)
    equation_of_motion(basin, BASIN_START, 0.1, 7, 1)
    leading_error(basin, BASIN_START, 0.1, 7, 0)
    assert [b.description for b in bars] == [
        "gradient descent",
        "equation of motion",
        "gradient descent",
        "leading error",
    ]
    assert [b.total for b in bars] == pytest.approx([7, 0.7, 7, 7])
    assert [b.done for b in bars] == pytest.approx([7, 0.7, 7, 7])
    assert all(b.closed == 1 for b in bars)


# --- losses no flow can follow --------------------------------------------------------


def test_random_losses_are_refused():
    generator = torch.Generator().manual_seed(0)

    def noisy(theta):
        return (theta * torch.randn(1, generator=generator, dtype=torch.float64)).sum()

    for call in (
        lambda: gradient_descent(noisy, vector(1.0), 0.1, 3),
        lambda: equation_of_motion(noisy, vector(1.0), 0.1, 3, 0),
        lambda: leading_error(noisy, vector(1.0), 0.1, 3, 0),
        lambda: largest_learning_rate(noisy, vector(1.0), 1.0, 0.1, 0),
    ):
        with pytest.raises(ValueError, match="loss must give the same value twice"):
            call()


def test_a_field_that_is_not_smooth_does_not_run_for_ever(monkeypatch):
    monkeypatch.setattr("fpbook.equation_of_motion.STEPS_PER_TIME", 1)

    def rough(theta):
        return -(theta + 0.9 * torch.sin(1e5 * theta) / 1e5).sum()

    with pytest.raises(FloatingPointError, match=r"only reached t = .* of 10000"):
        equation_of_motion(rough, vector(0.0), 5e3, 2, 0)


def test_infinite_counter_terms_and_errors_are_named():
    def kink(theta):
        return theta.clamp(min=0).pow(1.5).sum()

    with pytest.raises(FloatingPointError, match="counter term f_1 is not finite"):
        modified_equation(kink, vector(0.0), 1)
    with pytest.raises(FloatingPointError, match="error is not finite at step 1"):
        leading_error(kink, vector(0.0), 0.1, 3, 0)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_burst_keeps_its_digits_at_small_learning_rates(order):
    loss, theta = polynomial_like, vector(1.3, -0.4)
    series = sum(
        1e-9**j * f for j, f in enumerate(modified_equation(loss, theta, order))
    )
    # Differencing iterates would lose nine digits here; the next order is 1e-18.
    difference = (burst_field(loss, theta, 1e-9, order) - series).norm()
    assert float(difference / series.norm()) < 1e-14


def polynomial_like(theta):
    return (theta[0] * theta[1] - 1) ** 2 / 2 + theta[0] ** 4 / 20
