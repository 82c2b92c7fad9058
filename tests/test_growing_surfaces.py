"""Simulated surfaces against all of their paths, exact laws and symmetries.

Independent references: enumeration of every path over the very numbers drawn, the exact
law of the largest eigenvalue of complex Wishart matrices, Burke's theorem, a transfer
matrix of two replicas, lattice equations as ordinary ones, and exactly solved walks.
Statistical tolerances are four standard errors, with fixed seeds.
"""

import math
import re
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, special, stats

import fpbook.growing_surfaces as module
from fpbook.growing_surfaces import (
    directed_polymer,
    kpz_equation,
    last_passage,
    random_environment_walk,
)
from fpbook.kpz import growth_exponent, height_moments, roughness
from fpbook.tracy_widom import baik_rains, tracy_widom

# A handful of float64 operations: a few units of 1.1e-16, with a margin of 100.
ROUNDING = 1e-13

seeds = st.integers(0, 2**32 - 1)
geometries = st.sampled_from(["flat", "point", "stationary"])


def assert_mean(samples, expected):
    """Check a mean over axis 0 within four of its standard errors."""
    samples = np.asarray(samples)
    error = samples.std(axis=0) / math.sqrt(len(samples))
    assert np.all(error > 0)
    deviation = np.abs(samples.mean(axis=0) - expected) / error
    assert deviation.max() < 4, deviation


class Generator:
    """Numpy's generator, or one with ``normals`` of our own; keeps what it draws."""

    make = staticmethod(np.random.default_rng)

    def __init__(self, drawn, normals=None):
        self.drawn, self.normals = drawn, normals

    def __call__(self, seed):
        self.source = self.make(seed)
        return self

    def keep(self, values):
        self.drawn.append(values.copy())
        return values

    def standard_exponential(self, size=None, out=None):
        return self.keep(self.source.standard_exponential(size, out=out))

    def random(self, size=None, out=None):
        return self.keep(self.source.random(size, out=out))

    def standard_normal(self, size=None, out=None):
        values = self.source.standard_normal(size, out=out)
        if self.normals is not None:
            values[...] = self.normals(len(self.drawn), values)
        return self.keep(values)


@pytest.fixture
def drawn(monkeypatch):
    """All arrays of random numbers that a simulation draws, in order."""
    arrays = []
    monkeypatch.setattr("numpy.random.default_rng", Generator(arrays))
    return arrays


@pytest.fixture
def normals(monkeypatch):
    """Replace normals by a function of the number of the draw and the values."""

    def replace(function):
        generator = Generator([], function)
        monkeypatch.setattr("numpy.random.default_rng", generator)

    return replace


# --- last passage: every path -------------------------------------------------------


def paths(end, steps):
    """Sites of all directed paths to a site, from the start: (2^steps, steps + 1)."""
    back = np.array(list(product((0, 1), repeat=steps)), dtype=int)
    back = back.reshape(2**steps, steps)
    return end - np.pad(np.cumsum(back, axis=1), ((0, 0), (1, 0)))[:, ::-1]


def sums_along_paths(weights, end):
    """Sum over each path of the weights (steps, L), and the site where it starts."""
    steps, L = weights.shape
    sites = paths(end, steps)
    return weights[np.arange(steps), sites[:, 1:] % L].sum(axis=1), sites[:, 0]


@pytest.mark.parametrize("width", [1, 2, 5])
@pytest.mark.parametrize("geometry", ["flat", "stationary"])
def test_heights_on_a_ring_are_those_of_the_heaviest_paths(drawn, geometry, width):
    steps, samples, times = 7, 2, [0, 1, 4, 7]
    h = last_passage(width, steps, 3, geometry, times, samples=samples)
    start, tilt = np.zeros((width, samples)), np.zeros(samples)
    if geometry == "stationary":
        one, other = drawn.pop(0)
        increments = 2 * (one - other)
        start[1:], tilt = increments[:-1].cumsum(axis=0), increments.sum(axis=0)
    weights = np.stack(drawn)
    assert weights.shape == (steps, width, samples)
    for (m, time), x, n in product(enumerate(times), range(width), range(samples)):
        # Ring upon ring of them, each higher by the tilt.
        sums, begin = sums_along_paths(weights[:time, :, n], x + time // 2)
        turns, sites = np.divmod(begin, width)
        best = np.max(start[sites, n] + turns * tilt[n] + sums)
        assert h[n, m, x] == pytest.approx(best, abs=ROUNDING * steps * 10)


def test_heights_from_a_point_are_those_of_the_heaviest_paths(drawn):
    steps, samples, width = 6, 2, 15
    times = list(range(steps + 1))
    h = last_passage(width, steps, 3, "point", times, samples=samples)
    # Sites 0 to k are reached by the weight number k.
    weights = np.full((steps, steps + 1, samples), -np.inf)
    for k, drawn_now in enumerate(drawn):
        assert drawn_now.shape == (k + 1, samples)
        weights[k, : k + 1] = drawn_now
    assert np.all(h[:, 0, width // 2] == 0)
    for t, n, c in product(times[1:], range(samples), range(width)):
        site = (t - 1) // 2 + c - width // 2
        expected = -np.inf
        if 0 <= site < t:
            ways = [w for w in paths(site, t - 1) if w[0] == 0]
            expected = max(weights[np.arange(t), way, n].sum() for way in ways)
        np.testing.assert_allclose(h[n, t, c], expected, rtol=ROUNDING)


def test_minus_infinity_is_where_no_path_ends():
    steps, width = 9, 31
    h = last_passage(width, steps, 0, "point", list(range(steps + 1)))
    for t, profile in enumerate(h):
        # Sites 0 to t - 1, the middle one, or that left of the middle, at the centre.
        first = width // 2 - max(t - 1, 0) // 2
        reached = np.zeros(width, dtype=bool)
        reached[first : first + max(t, 1)] = True
        np.testing.assert_array_equal(np.isfinite(profile), reached)
        assert np.all(profile[~reached] == -np.inf)


# --- last passage: exact laws -------------------------------------------------------


def wishart(s, m, n):
    """P(G <= s) of the best path through m x n exponential weights.

    It is the law of the largest eigenvalue of a complex Wishart matrix; Johansson,
    Commun. Math. Phys. 209, 437 (2000), proposition 1.4: a Hankel determinant.
    """
    m, n = max(m, n), min(m, n)
    order = m - n + np.add.outer(np.arange(n), np.arange(n)) + 1
    entries = special.gammainc(order, np.asarray(s)[..., None, None])
    norm = np.prod(
        [special.gamma(k + 1) * special.gamma(m - n + k + 1) for k in range(n)]
    )
    return np.linalg.det(entries * special.gamma(order)) / norm


def wishart_moments(m, n):
    """Mean and variance, by parts."""
    mean, square = (
        integrate.quad(lambda s, k=k: k * s ** (k - 1) * (1 - wishart(s, m, n)), 0, 60)[
            0
        ]
        for k in (1, 2)
    )
    return mean, square - mean**2


def test_exact_law_of_two_by_two_weights():
    # The first and last weight, and the larger of two: 1 + 1 + 3/2; 1 + 1 + 5/4.
    np.testing.assert_allclose(wishart_moments(2, 2), (3.5, 3.25), rtol=1e-7)


@pytest.mark.parametrize("width", [1, 2, 3, 6])
def test_any_window_at_any_time_has_the_exact_law(width):
    # Wider than the paths reach, and narrower: then sites out of reach are left out.
    steps, samples = 7, 20_000
    times = [2, 4, 5, 7]
    h = last_passage(width, steps, 11, "point", times, samples=samples)
    for time, profile in zip(times, np.moveaxis(h, 1, 0), strict=True):
        for c in range(width):
            site = (time - 1) // 2 + c - width // 2
            m, n = site + 1, time - site
            if m < 1 or n < 1:
                assert np.all(profile[:, c] == -np.inf)
                continue
            mean, variance = wishart_moments(m, n)
            values = profile[:, c]
            assert_mean(values, mean)
            assert_mean((values - mean) ** 2, variance)
            # Odds of four standard errors.
            law = stats.ks_1samp(values, wishart, args=(m, n), method="asymp")
            assert law.pvalue > 6e-5


def test_square_of_weights_is_a_wishart_matrix():
    # Dumitriu and Edelman, J. Math. Phys. 43, 5830 (2002): a bidiagonal root.
    N, samples, rng = 12, 4000, np.random.default_rng(5)
    heights = last_passage(1, 2 * N - 1, 5, "point", samples=samples)[:, 0, 0]
    root = np.zeros((samples, N, N))
    k = np.arange(N)
    root[:, k, k] = np.sqrt(rng.chisquare(2 * (N - k), (samples, N)) / 2)
    below = rng.chisquare(2 * (N - k[1:]), (samples, N - 1)) / 2
    root[:, k[1:], k[:-1]] = np.sqrt(below)
    largest = np.linalg.svd(root, compute_uv=False)[:, 0] ** 2
    assert_mean(heights - largest, 0.0)
    spread = (heights - heights.mean()) ** 2 - (largest - largest.mean()) ** 2
    assert_mean(spread, 0.0)
    assert stats.ks_2samp(heights, largest).pvalue > 6e-5


def test_plane_has_the_exact_law_of_the_first_steps():
    # h_1 is one weight; h_2 one and the larger of two: mean 1 + 3/2, variance 1 + 5/4.
    h = last_passage(5, 2, 1, times=[0, 1, 2], samples=20_000)
    assert np.all(h[:, 0] == 0)
    assert_mean(h[:, 1], 1.0)
    assert_mean((h[:, 1] - 1) ** 2, 1.0)
    assert stats.kstest(h[:, 1].ravel(), "expon").pvalue > 6e-5
    assert_mean(h[:, 2], 2.5)
    assert_mean((h[:, 2] - 2.5) ** 2, 2.25)
    # Neighbours share one weight b of the two; <max(a, b)> = b + exp(-b) at fixed b:
    # Cov(max(a, b), max(b, c)) = Var(b + exp(-b)) = 1 + 1/12 - 1/2.
    assert_mean((h[:, 2, 1:] - 2.5) * (h[:, 2, :-1] - 2.5), 7 / 12)
    assert_mean((h[:, 2, 2:] - 2.5) * (h[:, 2, :-2] - 2.5), 0.0)


def test_columns_of_a_plane_have_one_law():
    h = last_passage(8, 9, 2, samples=10_000)[:, 0]
    assert_mean(h - np.roll(h, 3, axis=1), 0.0)
    centred = (h - h.mean()) ** 2
    assert_mean(centred - np.roll(centred, 3, axis=1), 0.0)


def test_stationary_surface_is_stationary():
    # Burke's theorem holds on the ring as it does on the line: increments stay
    # independent differences of two exponentials of mean 2, those across the seam
    # included, and every step adds 2 in the mean.
    width, steps, samples = 6, 9, 20_000
    times = [0, 1, 2, 5, 9]
    h = last_passage(width, steps, 7, "stationary", times, samples=samples)
    assert np.all(h[:, 0, 0] == 0)
    for m, time in enumerate(times):
        if time:
            assert_mean(h[:, m] - h[:, 0], 2.0 * time)
        slopes = np.diff(h[:, m], axis=1)
        assert_mean(slopes, 0.0)
        assert_mean(slopes**2, 8.0)
        assert_mean(slopes**3, 0.0)
        assert_mean(np.abs(slopes), 2.0)
        assert_mean(slopes[:, 1:] * slopes[:, :-1], 0.0)
        # Independent, not only uncorrelated: 8^2.
        assert_mean(slopes[:, 1:] ** 2 * slopes[:, :-1] ** 2, 64.0)
        law = stats.laplace(scale=2).cdf
        assert stats.kstest(slopes.ravel(), law).pvalue > 6e-5


@settings(max_examples=30, deadline=None)
@given(seed=seeds, width=st.integers(1, 9), start=st.integers(0, 4))
def test_surfaces_only_grow(seed, width, start):
    # The column of a site moves on by one in two steps.
    for geometry in ("flat", "stationary"):
        h = last_passage(width, 8, seed, geometry, [start, start + 2])
        assert np.all(h[1, 1:] > h[0, :-1])
        # And the one from the left overtakes it.
        assert np.all(h[1] > h[0])


def argmax_of_correlation(one, other):
    """Columns from one surface to the other, from -L/2 to L/2."""
    one, other = one - one.mean(), other - other.mean()
    correlation = np.fft.irfft(np.fft.rfft(other) * np.fft.rfft(one).conj(), len(one))
    return (np.argmax(correlation) + len(one) // 2) % len(one) - len(one) // 2


@pytest.mark.parametrize("later", [66, 68, 80])
def test_surfaces_do_not_drift_in_their_frame(later):
    # In the frame of the sites the maximum is at half the steps.
    half = (later - 64) // 2
    flat = last_passage(4096, later, 0, times=[64, later])
    assert abs(argmax_of_correlation(*flat)) <= half // 4
    polymer = directed_polymer(4096, later, 0, 1.0, [64, later])
    assert abs(argmax_of_correlation(*polymer)) <= half // 4


def test_stationary_slopes_spread_evenly_to_both_sides():
    # Two steps reach a column on either side, and the sum over lags is conserved: 8.
    h = last_passage(8, 5, 1, "stationary", times=[3, 5], samples=40_000)
    before, after = np.moveaxis(np.diff(h, axis=2), 1, 0)
    inner = before[:, 2:-2]
    at = {lag: after[:, 2 + lag : 5 + lag] * inner for lag in range(-2, 3)}
    assert_mean(at[-2].mean(axis=1), 0.0)
    assert_mean(at[2].mean(axis=1), 0.0)
    assert_mean((at[1] - at[-1]).mean(axis=1), 0.0)
    assert_mean(sum(at.values()).mean(axis=1), 8.0)
    assert at[1].mean() > 1


# --- last passage: the class --------------------------------------------------------


def test_plane_grows_as_the_third_root_with_the_law_of_goe():
    times = [128, 181, 256, 362, 512, 724, 1024]
    h = last_passage(2**17, 1024, 3, times=times)
    exponent = growth_exponent(times, h.reshape(7, 32, -1).var(axis=2).T)
    # 2^17 sites are 1300 correlation lengths of 1024^(2/3); corrections fall as t^-2/3.
    assert abs(exponent.value - 1 / 3) < 0.02
    assert exponent.error < 0.02 / 2
    N, law = 1024 / 2, tracy_widom("GOE")
    values, errors = height_moments(h[-1])
    unit = (4 * N) ** (1 / 3)
    # A constant beside h leaves an offset of t^-1/3.
    assert abs((values.mean - 4 * N) / unit - law.mean) < 4 * errors.mean / unit + 0.02
    ratio = values.variance / unit**2
    assert abs(ratio - law.variance) < 4 * errors.variance / unit**2
    assert errors.variance / unit**2 < 0.06
    assert abs(values.skewness - law.skewness) < 4 * errors.skewness < 0.3
    assert abs(values.kurtosis - law.kurtosis) < 4 * errors.kurtosis < 0.5


def test_height_over_a_point_has_the_law_of_gue():
    N, samples, law = 128, 6000, tracy_widom("GUE")
    heights = last_passage(1, 2 * N - 1, 5, "point", samples=samples)[:, 0, 0]
    scaled = (heights - 4 * N) / (16 * N) ** (1 / 3)
    # Relative corrections of the law are of order N^(-2/3) = 0.04.
    finite = N ** (-2 / 3)
    assert abs(scaled.mean() - law.mean) < 4 * scaled.std() / samples**0.5 + finite
    spread = math.sqrt((law.kurtosis + 2) / samples)
    assert abs(scaled.var() / law.variance - 1) < 4 * spread + finite
    assert abs(stats.skew(scaled) - law.skewness) < 4 * math.sqrt(6 / samples) + 0.02
    kurtosis = stats.kurtosis(scaled)
    assert abs(kurtosis - law.kurtosis) < 4 * math.sqrt(24 / samples) + 0.02


def test_stationary_height_has_the_law_of_baik_and_rains():
    start, end = last_passage(2**17, 512, 5, "stationary", times=[0, 512])
    law, unit = baik_rains(), (16 * 256) ** (1 / 3)
    values, errors = height_moments(end - start, 64)
    # The mean is exact at any time; corrections of the rest fall as t^-2/3 = 0.016.
    assert abs(values.mean - 4 * 256) < 4 * errors.mean
    spread = values.variance / unit**2
    assert abs(spread - law.variance) < 4 * errors.variance / unit**2 + 0.016
    assert errors.variance / unit**2 < 0.04
    assert abs(values.skewness - law.skewness) < 4 * errors.skewness < 0.25
    assert abs(values.kurtosis - law.kurtosis) < 4 * errors.kurtosis < 0.7


# --- directed polymers --------------------------------------------------------------


@pytest.mark.parametrize("width", [1, 2, 3, 6])
def test_polymer_is_a_sum_over_all_paths(drawn, width):
    b, samples, times = 0.8, 2, [0, 1, 4, 7]
    h = directed_polymer(width, 7, 1, b, times, samples=samples)
    noise = np.stack(drawn)
    assert noise.shape == (7, width, samples)
    for (m, time), x, n in product(enumerate(times), range(width), range(samples)):
        sums, _ = sums_along_paths(noise[:time, :, n], x + time // 2)
        expected = special.logsumexp(b * sums - time * b**2 / 2 - time * math.log(2))
        assert h[n, m, x] == pytest.approx(expected, abs=ROUNDING)


def test_mean_of_the_polymer_is_one():
    h = directed_polymer(6, 8, 1, 0.5, times=[1, 4, 8], samples=20_000)
    assert_mean(np.exp(h), 1.0)


def test_second_moments_of_the_polymer_are_those_of_two_replicas():
    # <Z(x) Z(y)>: two paths that gain exp(b^2) where they meet.
    L, b, samples = 5, 0.6, 40_000
    times = [1, 2, 6]
    h = directed_polymer(L, 6, 2, b, times, samples=samples)
    hop = (np.eye(L) + np.roll(np.eye(L), 1, axis=0)) / 2
    replicas, gain = np.ones((L, L)), np.exp(b**2 * np.eye(L))
    expected = {}
    for time in range(1, 7):
        replicas = gain * (hop @ replicas @ hop.T)
        expected[time] = replicas
    for m, time in enumerate(times):
        Z = np.exp(h[:, m])
        for distance in (0, 1, 2):
            found = (Z * np.roll(Z, -distance, axis=1)).mean(axis=1)
            assert_mean(found, expected[time][0, distance])


def test_polymer_without_noise_does_not_grow():
    h = directed_polymer(4, 50, 0, 0.0, times=[0, 1, 17, 50])
    # An exponential of log 2 errs by one unit in a step.
    np.testing.assert_allclose(h, 0.0, atol=50 * 4e-16)


@settings(max_examples=40, deadline=None)
@given(seed=seeds, strength=st.floats(1e-3, 5.0), width=st.integers(1, 6))
def test_polymer_lies_between_bounds_of_the_best_path(seed, strength, width):
    # The mean over 2^t paths is at most the largest, and at least 2^-t of it: last
    # passage with normal weights, as the strength grows.
    steps, b, arrays = 6, strength, []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("numpy.random.default_rng", Generator(arrays))
        h = directed_polymer(width, steps, seed, b)[0]
    noise = np.stack(arrays)[:, :, 0]
    for x in range(width):
        best = sums_along_paths(noise, x + steps // 2)[0].max()
        above = h[x] + steps * b**2 / 2
        slack = 1e-12 * (1 + abs(b * best))
        assert b * best - steps * math.log(2) - slack <= above <= b * best + slack


@pytest.mark.parametrize("every", [1, 5, 10**6])
def test_rescaling_changes_nothing(monkeypatch, every):
    before = directed_polymer(16, 60, 4, 1.0, times=[7, 60], samples=2)
    monkeypatch.setattr(module, "RESCALE", every)
    after = directed_polymer(16, 60, 4, 1.0, times=[7, 60], samples=2)
    np.testing.assert_allclose(after, before, rtol=0, atol=60 * ROUNDING)


def test_polymer_grows_far_beyond_the_range_of_numbers():
    # Z of exp(-3000): <h> falls by between b^2 / 2 - b max and b^2 / 2 in a step.
    h = directed_polymer(8, 1500, 0, 3.0)
    assert np.all(h < -800)
    assert np.all(np.isfinite(h))


def test_a_strong_polymer_is_no_problem_for_numbers():
    # Heights of ten samples of two sites span less than 200; that all of them fall by
    # b^2 / 2 = 72 in a step is no reason to give up.
    h = directed_polymer(2, 40, 0, 12.0, samples=10)
    assert np.all(np.ptp(h, axis=2) < 200)


@pytest.mark.parametrize("strength", [40.0, 1e3])
def test_polymer_too_strong_for_numbers_is_noticed(strength):
    # Neighbours differ by b times a few in a single step, and by more in sixteen.
    with pytest.raises(FloatingPointError, match="step 16 span more than the range"):
        directed_polymer(64, 32, 0, 4 * strength)


# --- the KPZ equation ---------------------------------------------------------------


def power(h):
    """Mean square of the modes, <|sum h exp(-ikx)|^2> / L, for each sample."""
    return np.abs(np.fft.rfft(h)) ** 2 / h.shape[-1]


def rates(width, viscosity):
    k = 2 * np.pi * np.arange(width // 2 + 1) / width
    return viscosity * (2 - 2 * np.cos(k))


@pytest.mark.parametrize("width", [2, 5, 6])
@pytest.mark.parametrize("dt", [0.05, 0.7, 100.0])
def test_linear_surface_has_exact_modes_at_any_step(width, dt):
    # 2 D (1 - exp(-2 r t)) / (2 r), and 2 D t for the mean height.
    nu, D, times = 0.7, 0.4, [0.3, 2.0]
    h = kpz_equation(
        width,
        times,
        1,
        viscosity=nu,
        noise=D,
        nonlinearity=0.0,
        dt=dt,
        samples=8000,
    )
    r = rates(width, nu)
    for m, t in enumerate(times):
        expected = np.full(len(r), 2 * D * t)
        expected[1:] *= -np.expm1(-2 * r[1:] * t) / (2 * r[1:] * t)
        assert_mean(power(h[:, m]), expected)
        assert_mean(h[:, m], 0.0)
    # The second height remembers the first: damped by exp(-r (t' - t)).
    first, second = (np.fft.rfft(h[:, m]) for m in (0, 1))
    memory = np.exp(-r * (times[1] - times[0]))
    rest = np.abs(second - memory * first) ** 2 / width
    t = times[1] - times[0]
    expected = np.full(len(r), 2 * D * t)
    expected[1:] *= -np.expm1(-2 * r[1:] * t) / (2 * r[1:] * t)
    assert_mean(rest, expected)


@pytest.mark.parametrize("nonlinearity", [0.0, 3.0, -3.0])
def test_stationary_slopes_stay_normal_and_the_mean_grows_as_their_square(nonlinearity):
    # On a ring slopes add up to zero: variance V (1 - 1 / L), covariance -V / L. The
    # square then grows by lambda / 6 times 2 V (1 - 1 / L) - V / L.
    L, nu, D, samples, t = 8, 1.3, 0.5, 20_000, 3.0
    V = D / nu
    h = kpz_equation(
        L,
        [0, t],
        4,
        viscosity=nu,
        noise=D,
        nonlinearity=nonlinearity,
        dt=0.05,
        stationary=True,
        samples=samples,
    )
    assert np.all(h[:, 0, 0] == 0)
    own, shared = V * (1 - 1 / L), -V / L
    for heights in np.moveaxis(h, 1, 0):
        d = np.roll(heights, -1, axis=1) - heights
        assert_mean(d[:, :-1], 0.0)
        assert_mean(d**2, own)
        assert_mean(d**3, 0.0)
        assert_mean(d**4, 3 * own**2)
        for lag in (1, 2, 4):
            other = np.roll(d, lag, axis=1)
            assert_mean((d * other).mean(axis=1), shared)
        # The square of a mode is exponential: no cubic order among slopes either.
        assert_mean((d**2 * np.roll(d, 1, axis=1)).mean(axis=1), 0.0)
    growth = h[:, 1].mean(axis=1) - h[:, 0].mean(axis=1)
    expected = nonlinearity * t / 6 * (2 * own + shared)
    if nonlinearity == 0:
        expected = 0.0
    assert_mean(growth, expected)


SLOPES = np.array([0.9, -0.4, 0.7, -1.3, 0.2, 0.6, -0.5, -0.2])
"""Of a start of our own; they add up to zero."""


def relax(normals, times, dt, viscosity, nonlinearity):
    """Heights without noise, from our own slopes."""
    normals(lambda number, _: SLOPES if number == 0 else 0.0)
    options = {"viscosity": viscosity, "noise": viscosity, "stationary": True}
    return kpz_equation(8, times, 0, nonlinearity=nonlinearity, dt=dt, **options)


def lattice_equation(times, viscosity, nonlinearity):
    def slope(_, h):
        after, before = np.roll(h, -1), np.roll(h, 1)
        d, e = after - h, h - before
        square = nonlinearity / 6 * (d**2 + d * e + e**2)
        return viscosity * (after - 2 * h + before) + square

    start = np.concatenate([[0.0], np.cumsum(SLOPES[:-1])])
    return integrate.solve_ivp(
        slope, (0, times[-1]), start, t_eval=times, rtol=1e-12, atol=1e-13
    ).y.T


@pytest.mark.parametrize(
    ("viscosity", "order"),
    [
        (0.8, 2),
        # Without it, there is nothing to split.
        (1e-14, 4),
    ],
)
def test_order_in_time_without_noise(normals, viscosity, order):
    times = [0.4, 1.0]
    exact = lattice_equation(times, viscosity, 1.5)
    errors = [
        np.abs(relax(normals, times, dt, viscosity, 1.5) - exact).max()
        for dt in (0.1, 0.05, 0.025)
    ]
    orders = [math.log2(a / b) for a, b in pairwise(errors)]
    # The next term is smaller by the step, 0.1, or its square.
    assert orders == pytest.approx([order, order], abs=0.15)
    assert errors[-1] < 1e-3


def test_without_viscosity_the_squares_of_slopes_are_conserved(normals):
    h = relax(normals, [1.0, 2.0, 3.0], 0.01, 1e-14, 1.5)
    squares = ((np.roll(h, -1, axis=1) - h) ** 2).sum(axis=1)
    # 300 steps with an error of dt^5 each, and slopes that did change.
    np.testing.assert_allclose(squares, np.sum(SLOPES**2), rtol=1e-8)
    assert np.abs(np.diff(h, axis=1)[2] - SLOPES[:-1]).max() > 0.5


@pytest.mark.parametrize("stationary", [False, True])
def test_upside_down_the_square_pulls_down(normals, stationary):
    times = [0.5, 2.0]
    up = kpz_equation(7, times, 3, nonlinearity=2.0, stationary=stationary)
    normals(lambda _, values: -values)
    down = kpz_equation(7, times, 3, nonlinearity=-2.0, stationary=stationary)
    np.testing.assert_allclose(down, -up, rtol=0, atol=1e-12)
    assert np.abs(up).max() > 0.1


def test_steps_are_shortened_to_meet_the_times(drawn):
    # 0.3 in steps of 0.1 are three, not four; each draws once, and the last half
    # of the last one before a time once more.
    kpz_equation(4, [0.3, 0.3001, 1.0], 0, dt=0.1)
    assert len(drawn) == (3 + 1) + (1 + 1) + (7 + 1)


def test_linear_surface_grows_as_the_fourth_root():
    times, L, nu, D = np.geomspace(16, 256, 5), 4096, 1.0, 1.0
    h = kpz_equation(L, times, 2, nonlinearity=0.0, dt=300.0, samples=8)
    squared = roughness(h)
    exponent = growth_exponent(times, squared)
    # Of discrete space: the square falls short of its law by 1 / (8 nu t).
    assert abs(exponent.value - 1 / 4) < 0.02
    k = 2 * np.pi * np.arange(1, L) / L
    r = nu * (2 - 2 * np.cos(k))
    exact = [np.sum(D * -np.expm1(-2 * r * t) / r) / L for t in times]
    assert_mean(squared, exact)


def test_equation_grows_faster_than_the_linear_one():
    # Between 1/4 and 1/3 at these times, and towards 1/3.
    times = np.geomspace(32, 256, 4)
    h = kpz_equation(2048, times, 0, dt=0.1, nonlinearity=4.0, samples=4)
    assert 0.29 < growth_exponent(times, roughness(h)).value < 0.35


def test_too_long_a_step_is_noticed():
    with pytest.raises(
        FloatingPointError, match="not finite at time 50; use a shorter"
    ):
        kpz_equation(16, [1e-3, 50.0], 0, nonlinearity=100.0, dt=5.0)


# --- random environments ------------------------------------------------------------


def all_sites(steps):
    return (2 * np.arange(steps + 1) - steps) / steps


@settings(max_examples=40, deadline=None)
@given(seed=seeds, steps=st.integers(1, 12))
def test_no_probability_is_lost(seed, steps):
    log_chance = random_environment_walk(steps, seed, all_sites(steps), samples=3)
    np.testing.assert_allclose(np.exp(log_chance).sum(axis=-1), 1.0, rtol=ROUNDING)


def test_chances_are_sums_over_all_paths(drawn):
    steps, samples = 6, 2
    found = random_environment_walk(steps, 4, all_sites(steps), samples=samples)
    assert [a.shape for a in drawn] == [(k + 1, samples) for k in range(steps)]
    for n in range(samples):
        chance = np.zeros(steps + 1)
        for ups in product((0, 1), repeat=steps):
            # Row k is the site 2k - t.
            rows = np.concatenate([[0], np.cumsum(ups)])
            factors = [
                w[row, n] if up else 1 - w[row, n]
                for w, row, up in zip(drawn, rows[:-1], ups, strict=True)
            ]
            chance[rows[-1]] += math.prod(factors)
        np.testing.assert_allclose(np.exp(found[n, 0]), chance, rtol=ROUNDING)


def test_mean_over_environments_is_the_plain_walk():
    steps, samples = 6, 20_000
    log_chance = random_environment_walk(steps, 1, all_sites(steps), samples=samples)
    expected = stats.binom.pmf(np.arange(steps + 1), steps, 0.5)
    assert_mean(np.exp(log_chance[:, 0]), expected)


@pytest.mark.parametrize("velocity", [1.0, -1.0])
def test_straight_walk_is_a_product_of_uniforms(velocity):
    times = [1, 5, 40]
    h = random_environment_walk(40, 2, velocity, times, samples=4000)[..., 0]
    for m, time in enumerate(times):
        assert_mean(h[:, m], -time)
        assert_mean((h[:, m] + time) ** 2, time)
        assert stats.kstest(-h[:, m], stats.gamma(time).cdf).pvalue > 6e-5


def test_walk_nearby_is_read_at_the_nearest_site_in_reach():
    # At t = 3 sites are -3, -1, 1, 3: v = x / t, and borders in between.
    v = [-1, -0.7, -0.6, -0.01, 0.01, 0.6, 0.7, 1]
    near = random_environment_walk(3, 0, v)[0, 0]
    exact = random_environment_walk(3, 0, all_sites(3))[0, 0]
    np.testing.assert_array_equal(near, exact[[0, 0, 1, 1, 2, 2, 3, 3]])


def test_noise_that_conserves_probability_does_not_roughen_the_middle():
    # P over its mean tends to a gamma variable of shape 2 (of the algebra of beta and
    # gamma variables): a spread of log P of sqrt(psi_1(2)) = 0.803 that stays. It is
    # approached as t^-1/2, from below.
    found = random_environment_walk(400, 1, [0.0], [100, 400], samples=2500)[..., 0]
    for values, time in zip(found.T, (100, 400), strict=True):
        spread, error = values.std(), values.std() / math.sqrt(2 * len(values))
        # The kurtosis of a log-gamma variable widens the error of a normal one.
        kurtosis = special.polygamma(3, 2) / special.polygamma(1, 2) ** 2
        error *= math.sqrt(1 + kurtosis / 2)
        expected = math.sqrt(special.polygamma(1, 2))
        assert abs(spread - expected) < 4 * error + 0.4 * time**-0.5


def test_chance_too_small_for_numbers_is_noticed():
    with pytest.raises(FloatingPointError, match="step 800 is below 1e-300; use fewer"):
        random_environment_walk(800, 0, [0.0, 1.0])
    # It is none where nobody looks.
    assert np.all(np.isfinite(random_environment_walk(800, 0, [0.0])))


# --- what all of them share ---------------------------------------------------------

CALLS = {
    "flat": lambda seed=1, **o: last_passage(6, 9, seed, "flat", **o),
    "point": lambda seed=1, **o: last_passage(6, 9, seed, "point", **o),
    "stationary": lambda seed=1, **o: last_passage(6, 9, seed, "stationary", **o),
    "polymer": lambda seed=1, **o: directed_polymer(6, 9, seed, 0.5, **o),
    "walk": lambda seed=1, **o: random_environment_walk(9, seed, [0.0, 0.5], **o),
}


@pytest.mark.parametrize("name", CALLS)
def test_times_only_choose_what_is_kept(name):
    call = CALLS[name]
    everything = call(times=range(10))
    axis = -2
    assert everything.shape[axis] == 10
    np.testing.assert_allclose(
        call(times=[0, 3, 9]), np.take(everything, [0, 3, 9], axis), rtol=ROUNDING
    )
    np.testing.assert_allclose(call(), np.take(everything, [9], axis), rtol=ROUNDING)


@pytest.mark.parametrize("name", CALLS)
def test_results_depend_on_the_seed_alone(name):
    call = CALLS[name]
    np.testing.assert_array_equal(call(seed=5), call(seed=5))
    assert np.all(call(seed=5) != call(seed=6))


@pytest.mark.parametrize("name", [*CALLS, "equation"])
def test_samples_are_an_axis_of_independent_surfaces(name):
    def call(**options):
        if name == "equation":
            return kpz_equation(6, [0.5, 1.0], 1, **options)
        return CALLS[name](times=[1, 9], **options)

    one, many = call(samples=1), call(samples=3000)
    assert many.shape == (3000, *one.shape[1:])
    if name != "walk":
        np.testing.assert_array_equal(call(), one[0])
    columns = many[:, -1]
    columns = columns[:, np.isfinite(columns).all(axis=0)]
    centred = columns - columns.mean(axis=0)
    assert_mean(centred[1:] * centred[:-1], 0.0)
    # No two are alike, of which a shared row would make many.
    assert len(np.unique(columns[:, 0])) == 3000


def test_equation_depends_on_the_seed_alone():
    one, same, other = (kpz_equation(6, 1.0, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, same)
    assert np.all(one != other)
    assert one.shape == (1, 6)


def test_nothing_grows_without_steps():
    np.testing.assert_array_equal(last_passage(3, 0, 0), np.zeros((1, 3)))
    np.testing.assert_array_equal(directed_polymer(3, 0, 0, 1.0), np.zeros((1, 3)))
    np.testing.assert_array_equal(kpz_equation(3, [0.0], 0), np.zeros((1, 3)))
    np.testing.assert_array_equal(
        last_passage(3, 0, 0, "point"), [[-np.inf, 0, -np.inf]]
    )
    walk = random_environment_walk(0, 0, [0.3, -1.0])
    np.testing.assert_array_equal(walk, np.zeros((1, 1, 2)))


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("flat", "last passage"),
        ("point", "last passage"),
        ("polymer", "directed polymer"),
        ("walk", "random environment"),
    ],
)
def test_progress_is_told(told, name, title):
    CALLS[name]()
    assert told == [(9, title)] + 9 * [1]


def test_progress_of_the_equation_is_told_in_time(told):
    kpz_equation(4, [0.25, 1.0], 0, dt=0.1)
    assert told[0] == (1.0, "KPZ equation")
    # Three steps of 0.083, and eight of 0.094.
    assert len(told) == 1 + 3 + 8
    assert sum(told[1:]) == pytest.approx(1.0, rel=ROUNDING)


# --- arguments ----------------------------------------------------------------------

GOOD = {
    last_passage: {"width": 4, "steps": 3, "seed": 0, "geometry": "flat"},
    directed_polymer: {"width": 4, "steps": 3, "seed": 0, "strength": 1.0},
    kpz_equation: {"width": 4, "times": [0.1], "seed": 0},
    random_environment_walk: {"steps": 3, "seed": 0, "velocities": [0.0]},
}
INTEGERS = {"width": 1, "steps": 0, "seed": 0, "samples": 1}
BAD = [
    (function, name, value, f"an integer >= {smallest}")
    for function in (last_passage, directed_polymer, random_environment_walk)
    for name, smallest in INTEGERS.items()
    for value in (smallest - 1, 2.0)
    if (function, name) != (random_environment_walk, "width")
]
BAD += [
    (kpz_equation, name, value, f"an integer >= {smallest}")
    for name, smallest in {"width": 2, "seed": 0, "samples": 1}.items()
    for value in (smallest - 1, 2.5)
]
BAD += [
    (last_passage, "geometry", "curved", "one of ('flat', 'point', 'stationary')"),
    (directed_polymer, "strength", -0.1, "finite and >= 0"),
    (directed_polymer, "strength", math.inf, "finite and >= 0"),
    (directed_polymer, "strength", [1.0, 2.0], "a single number"),
    (kpz_equation, "viscosity", 0.0, "finite and > 0"),
    (kpz_equation, "viscosity", math.nan, "finite and > 0"),
    (kpz_equation, "dt", 0.0, "finite and > 0"),
    (kpz_equation, "dt", math.inf, "finite and > 0"),
    (kpz_equation, "noise", -1.0, "finite and >= 0"),
    (kpz_equation, "noise", math.nan, "finite and >= 0"),
    (kpz_equation, "nonlinearity", math.nan, "finite"),
    (kpz_equation, "nonlinearity", math.inf, "finite"),
    (kpz_equation, "times", [-0.1, 1.0], ">= 0 and increasing"),
    (kpz_equation, "times", [1.0, 1.0], ">= 0 and increasing"),
    (kpz_equation, "times", [], ">= 0 and increasing"),
    (random_environment_walk, "velocities", [0.0, 1.1], "from -1 to 1"),
    (random_environment_walk, "velocities", [-1.1], "from -1 to 1"),
    (random_environment_walk, "velocities", [math.nan], "from -1 to 1"),
    (random_environment_walk, "velocities", [], "from -1 to 1"),
    (random_environment_walk, "velocities", [[0.0]], "from -1 to 1"),
]


@pytest.mark.parametrize(
    ("function", "name", "value", "allowed"),
    BAD,
    ids=lambda x: getattr(x, "__name__", None),
)
def test_bad_arguments_are_named(function, name, value, allowed):
    function(**GOOD[function])
    message = rf"^{name} must be {re.escape(allowed)}.*, got "
    with pytest.raises(ValueError, match=message):
        function(**{**GOOD[function], name: value})


@pytest.mark.parametrize(
    "function", [last_passage, directed_polymer, random_environment_walk]
)
@pytest.mark.parametrize("times", [[], [2, 1], [1, 1], [-1, 2], [4], [0.5]])
def test_bad_times_are_refused(function, times):
    with pytest.raises(
        ValueError, match="must be increasing integers from 0 to 3, got "
    ):
        function(**GOOD[function], times=times)
