"""Replica theory: its saddle point by another quadrature, limits and identities."""

from functools import cache

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import logsumexp

from fpbook import annealed
from fpbook import replicas as module
from fpbook.annealed import paramagnet
from fpbook.replicas import order_parameters

NAMES = ("q", "Q", "r", "R", "qhat", "Qhat")

OVERLAPPING = [
    (2.0, -0.5, 0.1),
    (2.0, -0.5, 0.03),
    (1.6, -0.5, 0.1),
    (1.5, -0.2, 0.05),
    (2.5, -0.8, 0.3),
    (3.0, -0.3, 0.2),
]


@cache
def at(g, gamma, T):
    """Order parameters of a point by itself, which several tests start from."""
    return order_parameters(g, gamma, T)


def parameters(found):
    return np.array([getattr(found, name) for name in NAMES], dtype=float)


# --- by themselves: unscaled, all three integrals by plain sums ----------------------

FIELD = np.linspace(-8, 8, 65)
"""For a Gaussian a spacing of 1/4 is exact to exp(-2 (4 pi)^2), tails to 1e-15."""
HALF = FIELD[32:]
"""Of the other field, as both change their sign with x."""


def laws(p, g, gamma, T):
    """Weights of the fields, states, and exponents (u, v, x) of the dossier."""
    q, Q, r, R, qhat, Qhat = p
    a, c = T + g**2 * (q - Q), g**2 * gamma * R
    pull = g**2 * gamma * (r - R)
    one, two = np.exp(-(HALF**2) / 2), np.exp(-(FIELD**2) / 2)
    one[0] /= 2
    weights = np.outer(one / one.sum(), two / two.sum())
    reach = 9 * (T + g**2 * q) ** 0.5 + 1.2 * abs(pull)
    # A third of the narrowest width of the law, and less than the distance, pi / 2, of
    # the poles of tanh: exp(-2 pi^2 9) and exp(-pi^2 / 0.25).
    spacing = min(0.25, a**0.5 / (1 + abs(pull)) / 3)
    x = np.linspace(-reach, reach, 2 * int(np.ceil(reach / spacing)) + 1)
    phi = np.tanh(x)
    y = x - pull * phi
    u, v = HALF[:, None, None], FIELD[None, :, None]
    exponent = -(y**2) / (2 * a) + g * Q**0.5 / a * v * y
    exponent = exponent + (qhat - Qhat / 2) * phi**2
    root = (Qhat - c**2 / (g**2 * Q)) ** 0.5
    exponent = exponent + (c / (g * Q**0.5) * v + root * u) * phi
    return weights, x, exponent


def free_energy(p, g, gamma, T):
    r"""- beta f + ln(2 pi T) / 2, the free energy without that of free oscillators."""
    q, Q, r, R, qhat, Qhat = p
    a = T + g**2 * (q - Q)
    weights, x, exponent = laws(p, g, gamma, T)
    mean = np.sum(weights * logsumexp(exponent, axis=2)) + np.log(x[1] - x[0])
    return (
        -qhat * q
        + Qhat * Q / 2
        - gamma * g**2 / 2 * (r**2 - R**2)
        - np.log(a / T) / 2
        - g**2 * Q / (2 * a)
        + mean
        - np.log(2 * np.pi * T) / 2
    )


def right_sides(p, g, gamma, T):
    """The six equations of the dossier."""
    q, Q, r, R, *_ = p
    a, c = T + g**2 * (q - Q), g**2 * gamma * R
    weights, x, exponent = laws(p, g, gamma, T)
    phi = np.tanh(x)
    y = x - g**2 * gamma * (r - R) * phi
    law = np.exp(exponent - exponent.max(axis=2, keepdims=True))
    law /= law.sum(axis=2, keepdims=True)

    def together(f):
        return np.sum(weights * (law @ f))

    def apart(f, h):
        return np.sum(weights * (law @ f) * (law @ h))

    P_s, P_d = together(y * phi), apart(y, phi)
    Y_s = together(y**2) - 2 * c * (P_s - P_d)
    Y_d = apart(y, y) - 2 * c * (P_s - P_d)
    common = c / a * (q - Q) + g**2 * Q / a**2 * (P_s - P_d)
    shared = g**2 * Q / a**2 - 2 * g**2 * Q * (Y_s - Y_d) / a**3
    return np.array(
        [
            together(phi**2),
            apart(phi, phi),
            P_s / a - common,
            P_d / a - common,
            g**2 / 2 * (Y_s / a**2 - 1 / a + shared),
            g**2 * (Y_d / a**2 + shared),
        ]
    )


@pytest.mark.parametrize("point", [*OVERLAPPING, (2.0, -0.5, 1e-3)])
def test_equations_and_weight_by_another_quadrature(point):
    found = at(*point)
    assert found.branch == "replica symmetric"
    p = parameters(found)
    # The nodes of a solution are chosen to resolve averages to 1e-6.
    assert right_sides(p, *point) == pytest.approx(p, rel=2e-6, abs=2e-6)
    # The weight is stationary, but its own sum is not finer.
    assert found.log_weight == pytest.approx(free_energy(p, *point), abs=2e-6)


@pytest.mark.parametrize("point", OVERLAPPING[:3])
def test_the_free_energy_is_stationary(point):
    """This tests the six equations themselves: they are not used here."""
    p = parameters(at(*point))
    h = 1e-4
    moves = h * p * np.eye(6)
    here = free_energy(p, *point)
    up = np.array([free_energy(p + move, *point) for move in moves])
    down = np.array([free_energy(p - move, *point) for move in moves])
    # Third derivatives times h^2 = 1e-8, and the parameters' own error of 1e-6 times
    # second derivatives, which are up to 2 ...
    assert (up - down) / (2 * h) == pytest.approx(0, abs=2e-6)
    # ... and not 0: a change of r by 1e-5 would be seen.
    assert abs(up + down - 2 * here)[2] / h**2 > 0.5


@pytest.mark.parametrize("point", OVERLAPPING)
def test_derivatives_of_the_weight(point):
    """Those by what it depends on explicitly, as other derivatives are 0."""
    g, gamma, T = point
    found = at(*point)
    h = 1e-3

    factor = 1 + h * np.array([1, -1, 0, 0])
    near = order_parameters(
        g * factor, gamma + h * np.array([0, 0, 1, -1]), T
    ).log_weight
    warm = order_parameters(g, gamma, T * factor[:2]).log_weight
    by_g, by_gamma = (near[0] - near[1]) / (2 * h), (near[2] - near[3]) / (2 * h)
    by_T = (warm[0] - warm[1]) / (2 * h)
    # Differences are off by h^2 = 1e-6 times third derivatives, below 10, and by the
    # error of the nodes, whose smooth part drops out.
    within = {"rel": 1e-5, "abs": 1e-5}
    assert T / 2 + T * by_T == pytest.approx(float(found.energy), **within)
    conjugate = 2 * found.q * found.qhat - found.Q * found.Qhat
    response = g**2 * (found.r**2 - found.R**2)
    assert by_g == pytest.approx(gamma * response + conjugate, **within)
    assert by_gamma == pytest.approx(response / 2, **within)


# --- known values -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("T", "q", "ratio", "energy"),
    [(0.1, 0.302, 0.51, 1.0820), (0.03, 0.214, 0.69, 1.0597)],
)
def test_dossier(T, q, ratio, energy):
    found = at(2.0, -0.5, T)
    assert found.q == pytest.approx(q, abs=5e-4)
    assert found.Q / found.q == pytest.approx(ratio, abs=5e-3)
    assert found.energy / (T / 2) == pytest.approx(energy, abs=5e-5)


@pytest.mark.parametrize(
    ("gamma", "T", "g"),
    [
        (-0.5, 0.1, 1.51),
        (-0.5, 1e-2, 1.60),
        (-0.5, 1e-3, 1.78),
        (-0.5, 1e-4, 1.90),
        (-0.2, 0.1, 1.37),
        (-0.2, 1e-2, 1.156),
        (-0.2, 1e-3, 1.175),
        (-0.2, 1e-4, 1.212),
    ],
)
def test_gain_at_which_replicas_begin_to_overlap(gamma, T, g):
    def excess(gain):
        return float(paramagnet(gain, gamma, T, cold=True).stability) - 1

    onset = brentq(excess, 0.94 * g, 1.06 * g, xtol=1e-3)
    # Read off with a root finder that lost the small solution a little earlier or
    # later where it ends; never by more than 0.01.
    assert onset == pytest.approx(g, abs=0.01)
    below, above = order_parameters([onset - 0.003, onset + 0.003], gamma, T).Q
    assert below == 0
    assert above > 0


def test_overlap_grows_from_nothing():
    gains = np.array([1.514, 1.516, 1.52, 1.53])
    found = order_parameters(gains, -0.5, 0.1)
    excess = found.stability - 1
    share = found.Q / found.q
    assert np.all(excess > 0)
    assert share[0] < 2e-3
    # Linear: the ratio changes with the excess, and by less than twice it.
    ratio = share / excess
    assert ratio == pytest.approx(ratio[0], rel=2 * excess[-1])


# --- without overlap ----------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.3, 1e-2, 1e-6, 0.0])
def test_no_overlap_of_symmetric_networks(temperature):
    g, gamma = np.meshgrid([0.4, 0.7, 0.74, 1.0, 1.5, 2.5], [0.0, 0.2, 0.5, 1.0])
    found = order_parameters(g, gamma, temperature)
    plain = paramagnet(g, gamma, temperature)
    for name in ("q", "r", "qhat", "log_weight", "stability", "residual"):
        np.testing.assert_array_equal(getattr(found, name), getattr(plain, name))
    for name in ("Q", "R", "Qhat"):
        np.testing.assert_array_equal(getattr(found, name), np.zeros_like(g))
    at_origin = plain.q == 0
    assert np.all(found.branch[at_origin] == "trivial")
    assert np.all(found.branch[~at_origin] == "paramagnet")
    assert temperature == 0 or not at_origin.any()
    # qhat is known to 1e-10 of 1 / T.
    assert found.energy[0] == pytest.approx(temperature / 2, rel=1e-9)
    if temperature > 0:
        assert np.all(found.energy[1:] < temperature / 2)


@pytest.mark.parametrize(("g", "gamma"), [(1.5, -0.5), (0.7, -1.0), (4.0, -1.0)])
def test_no_overlap_below_the_onset(g, gamma):
    found = order_parameters(g, gamma, [0.0, 1e-6, 1e-2])
    assert np.all(found.Q == 0)
    assert list(found.branch) == ["trivial", "paramagnet", "paramagnet"]
    assert np.isnan(found.qhat[0])
    assert found.energy[0] == 0
    assert np.all(found.energy[1:] > [0.5e-6, 0.5e-2])
    assert np.all(found.stability < 1)


def test_the_small_solution_is_taken_where_the_large_one_is_unstable():
    found = order_parameters(1.8, -0.5, 1e-4)
    large, small = (paramagnet(1.8, -0.5, 1e-4, cold=cold) for cold in (False, True))
    assert large.stability > 1
    assert found.branch == "paramagnet"
    assert found.q == small.q
    assert found.log_weight == small.log_weight


def test_random_couplings_with_overlap_weigh_less_than_their_mean():
    # The mean of a logarithm is at most the logarithm of the mean.
    g, gamma, T = np.transpose(OVERLAPPING)
    found = order_parameters(g, gamma, T)
    assert np.all(found.log_weight < paramagnet(g, gamma, T).log_weight - 1e-6)


# --- bounds, and independence of the way --------------------------------------------


def assert_in_bounds(found):
    assert np.all(found.residual < 1e-10)
    assert np.all((found.Q >= 0) & (found.q > found.Q) & (found.q < 1))
    assert np.all((found.Q > 0) == (found.branch == "replica symmetric"))
    assert np.all((found.Q > 0) == (found.stability > 1))
    assert np.all((found.R >= 0) & (found.r > found.R) & (found.r < 1))
    assert np.all(found.qhat > 0)
    assert np.all((found.Qhat > 0) == (found.Q > 0))


def test_grid():
    g, gamma, T = np.meshgrid(
        [0.8, 1.2, 1.6, 2.0, 2.5, 3.0],
        [-1.0, -0.75, -0.5, -0.3, -0.1],
        [1e-3, 1e-2, 0.3],
        indexing="ij",
    )
    found = order_parameters(g, gamma, T)
    assert all(values.shape == (6, 5, 3) for values in found)
    assert_in_bounds(found)
    overlap = found.Q > 0
    assert 0.2 < overlap.mean() < 0.8
    # c^2 <= g^2 Q Qhat, the root in the law.
    c = g**2 * gamma * found.R
    assert np.all((c**2 < g**2 * found.Q * found.Qhat)[overlap])
    # A few of the points in another order, and alone.
    some = np.random.default_rng(0).permutation(np.flatnonzero(overlap))[:8]
    again = order_parameters(g.flat[some], gamma.flat[some], T.flat[some])
    alone = order_parameters(g.flat[some[0]], gamma.flat[some[0]], T.flat[some[0]])
    for name in NAMES:
        expected = getattr(found, name).flat[some]
        # The nodes follow the unknowns, and are good to 1e-6, times how far an average
        # moves the solution.
        assert getattr(again, name) == pytest.approx(expected, rel=2e-5)
        assert getattr(alone, name) == pytest.approx(expected[0], rel=2e-5)


def test_order_of_points():
    g, T = np.meshgrid([1.7, 2.0, 2.4], [0.03, 0.1])
    order = [4, 1, 5, 0, 3, 2]
    found = order_parameters(g.ravel(), -0.5, T.ravel())
    shuffled = order_parameters(g.ravel()[order], -0.5, T.ravel()[order])
    for name in NAMES:
        np.testing.assert_array_equal(
            getattr(shuffled, name), getattr(found, name)[order]
        )


@given(
    st.floats(0.3, 3.5),
    st.floats(-1.0, -1e-3),
    st.floats(-3, 0.5).map(lambda power: 10**power),
)
@example(2.0, -0.5, 1e-3)
@example(3.5, -0.9, 0.1)
@settings(max_examples=20, deadline=None)
def test_bounds(g, gamma, temperature):
    assert_in_bounds(order_parameters(g, gamma, temperature))


def test_lowest_temperatures():
    # Overlap becomes complete; residuals are as small as anywhere.
    T = np.array([1e-3, 1e-4, 1e-5])
    found = order_parameters(2.5, -0.5, T)
    assert np.all(found.residual < 1e-10)
    share = found.Q / found.q
    assert np.all(np.diff(share) > 0)
    assert share[-1] > 0.96
    assert np.all(np.diff(found.energy / T) < 0)


@pytest.mark.parametrize("point", [*OVERLAPPING[:2], (2.0, -0.5, 1e-3)])
def test_finer_nodes_change_little(point, monkeypatch):
    before = parameters(at(*point))
    monkeypatch.setattr(module, "QUADRATURE", 1e-10)
    after = parameters(order_parameters(*point))
    # 1e-6 in an average, times how far it moves the solution.
    assert before == pytest.approx(after, rel=2e-5)


def test_nodes_are_refined_until_averages_agree(monkeypatch):
    expected = parameters(at(2.0, -0.5, 0.03))
    monkeypatch.setattr(module, "SIZES", [(6, 4), (8, 6), *module.SIZES[:3]])
    found = parameters(order_parameters(2.0, -0.5, 0.03))
    assert found == pytest.approx(expected, rel=2e-5)
    monkeypatch.setattr(module, "QUADRATURE", 1.0)
    coarse = parameters(order_parameters(2.0, -0.5, 0.03))
    assert coarse != pytest.approx(expected, rel=2e-5)


# --- derivatives --------------------------------------------------------------------


@pytest.mark.parametrize("point", OVERLAPPING[:2])
def test_derivatives_of_the_equations(point):
    g, gamma, T = point
    p = parameters(at(*point)) * [1.1, 0.9, 1.05, 1.2, 0.8, 1.3]
    z = module._unknowns(p, g, gamma)
    nodes = module._nodes(p, g, gamma, T, 0)
    _, slope = module._defect(z, g, gamma, T, nodes)
    h = 1e-5
    moved = [
        # Relative to the averages' own scale, which differs between the two sides.
        [module._defect(z + side * h * unit, g, gamma, T, nodes)[0] for side in (1, -1)]
        for unit in np.eye(6)
    ]
    scales = [
        [scale(z + side * h * unit, g, gamma) for side in (1, -1)] for unit in np.eye(6)
    ]
    change = np.array(moved) * scales
    expected = (change[:, 0] - change[:, 1]).T / (2 * h) / scale(z, g, gamma)[:, None]
    # Differences are off by h^2 = 1e-10, times third derivatives of up to 1e2.
    assert slope == pytest.approx(expected, abs=1e-7, rel=1e-7)


def scale(z, g, gamma):
    p = module._parameters(z, g, gamma)
    return np.array([p[0], p[1], 1, 1, max(1, p[4]), p[5]])


def test_unknowns_and_parameters_are_inverse():
    p = np.array([0.4, 0.1, 0.7, 0.2, 1.5, 2.0])
    z = module._unknowns(p, 2.0, -0.5)
    assert module._parameters(z, 2.0, -0.5) == pytest.approx(p, rel=1e-14)


def test_coefficients_are_those_of_the_law():
    p, g, gamma, T = np.array([0.4, 0.1, 0.7, 0.2, 1.5, 2.0]), 2.0, -0.5, 0.1
    k = module._coefficients(p, g, gamma, T)
    _, x, exponent = laws(p, g, gamma, T)
    phi = np.tanh(x)
    u, v = HALF[20], FIELD[47]
    found = k[:3] @ [x**2, x * phi, phi**2] + k[3] * v * x + (k[4] * u + k[5] * v) * phi
    assert found == pytest.approx(exponent[20, 47], rel=1e-12, abs=1e-12)


# --- ways to a solution -------------------------------------------------------------


def test_nothing_branches_off_where_the_paramagnet_is_stable():
    # There the unstable direction has no real root; numpy's warning would be an error.
    assert module._branched_off(1.4, -0.5, 0.1) is None


def test_a_solution_is_followed_to_where_it_ends():
    start = module._branched_off(2.0, -0.5, 0.1)
    assert start.residual < 1e-10
    there = module._marched(start, 2.2, -0.5, 0.02)
    assert (there.g, there.T) == (2.2, 0.02)
    # There is no overlap at a small gain, nor at a high temperature.
    assert module._marched(start, 1.4, -0.5, 0.1) is None
    assert module._marched(start, 2.0, -0.5, 3.0) is None


def test_the_next_known_solution_is_tried():
    good = module._branched_off(2.0, -0.5, 0.1)
    bad = module.Solution(2.1, 0.1, np.full(6, 0.1), 0.0)
    found = module._reached([good, bad], 2.11, -0.5, 0.1)
    direct = module._reached([good], 2.11, -0.5, 0.1)
    # On nodes that were chosen along one and the same path.
    assert found.z == pytest.approx(direct.z, rel=1e-12)


@pytest.mark.parametrize("r", [1e5, np.inf, np.nan])
def test_a_guess_with_too_wide_a_law_is_given_up(r):
    # Without an attempt to allocate its grid.
    z = np.array([-1.0, 0.0, r, 0.1, 1.0, 0.0])
    assert module._solved(z, 2.0, -0.5, 0.1) is None


# --- errors -------------------------------------------------------------------------


def test_arguments_are_named():
    with pytest.raises(ValueError, match=r"^g must be finite and > 0, got"):
        order_parameters([1.0, 0.0], -0.5, 0.1)
    with pytest.raises(ValueError, match=r"^gamma must be from -1 to 1, got"):
        order_parameters(1.0, [-0.5, -1.5], 0.1)
    with pytest.raises(ValueError, match=r"^temperature must be finite and >= 0, got"):
        order_parameters(1.0, -0.5, [0.1, -0.1])


@pytest.mark.parametrize("temperature", [0.0, 1e-7, 9e-6])
def test_overlap_at_the_lowest_temperatures_is_refused(temperature):
    with pytest.raises(
        ValueError,
        match=rf"^temperature must be >= 1e-05 where replicas overlap, got "
        rf"{temperature} at g = 2.5, gamma = -0.5",
    ):
        order_parameters(2.5, -0.5, [0.1, temperature])


def test_overlap_that_is_not_found(monkeypatch):
    monkeypatch.setattr(module, "NEWTON_STEPS", 0)
    monkeypatch.setattr(module, "_newton", lambda z, *others: (z, np.inf))
    with pytest.raises(
        FloatingPointError,
        match=r"^no solution with an overlap is found at g = 2.0, gamma = -0.5, "
        r"temperature = 0.1",
    ):
        order_parameters(2.0, -0.5, 0.1)


def test_law_that_is_not_resolved(monkeypatch):
    monkeypatch.setattr(module, "QUADRATURE", 0.0)
    with pytest.raises(
        FloatingPointError,
        match=r"^the law of a neuron is not resolved at g = 2.0, gamma = -0.5, "
        r"temperature = 0.1: averages still change by \d",
    ):
        order_parameters(2.0, -0.5, 0.1)


def test_finer_solution_that_is_not_found(monkeypatch):
    solved = module._solved
    monkeypatch.setattr(module, "QUADRATURE", 0.0)
    monkeypatch.setattr(
        module, "_solved", lambda *a: None if len(a) > 4 else solved(*a)
    )
    with pytest.raises(FloatingPointError, match=r"^the law of a neuron is not"):
        order_parameters(2.0, -0.5, 0.1)


def test_shared_names():
    assert module.paramagnet is annealed.paramagnet
    assert all(hasattr(module, name) for name in module.__all__)
