"""Powers of the width: exact ones are found, intervals are as wide as they should be.

For logarithms of normal noise and the geometric mean the error of a slope is known in
closed form, which the bootstrap has to meet; ensembles do not depend on how they are
spread.
"""

import math

import joblib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fpbook.scaling import RESAMPLINGS, Slope, over_widths, slope

WIDTHS = np.array([64, 256, 1024, 4096])

seeds = st.integers(0, 2**32 - 1)


def lognormal(rng, power=-1.0, spread=0.5, networks=20, widths=WIDTHS):
    """Positive numbers whose median scales with the power."""
    noise = spread * rng.normal(size=(len(widths), networks))
    return 3.0 * widths[:, None] ** power * np.exp(noise)


def geometric_mean(values, axis):
    return np.exp(np.log(np.abs(values)).mean(axis=axis))


def exact_error(networks, spread=0.5, widths=WIDTHS):
    """Standard error of the slope of geometric means, by least squares."""
    centred = np.log(widths) - np.log(widths).mean()
    return spread / math.sqrt(networks * (centred @ centred))


# --- slopes -------------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(
    power=st.floats(-4, 4),
    constant=st.floats(1e-8, 1e8),
    sign=st.sampled_from([-1, 1]),
    statistic=st.sampled_from([np.median, np.mean, np.max, geometric_mean]),
)
def test_an_exact_power_is_found_without_error(power, constant, sign, statistic):
    values = np.tile(sign * constant * WIDTHS[:, None] ** power, 5)
    if statistic is geometric_mean:
        values = np.abs(values)
    found = slope(WIDTHS, values, statistic)
    assert found == pytest.approx((power, power, power), abs=1e-12)
    assert found.error == pytest.approx(0, abs=1e-12)


@settings(deadline=None, max_examples=25)
@given(seed=seeds, factor=st.floats(1e-3, 1e3), stretch=st.integers(1, 9))
def test_units_and_the_order_of_networks_do_not_matter(seed, factor, stretch):
    rng = np.random.default_rng(seed)
    values = lognormal(rng)
    found = slope(WIDTHS, values)
    assert slope(stretch * WIDTHS, factor * values) == pytest.approx(found, abs=1e-12)
    # Nor does the sign, nor the order of the widths.
    assert slope(WIDTHS.tolist(), (-values).tolist()) == pytest.approx(found)
    assert slope(WIDTHS[::-1], values[::-1]).value == pytest.approx(found.value)
    shuffled = rng.permuted(values, axis=1)
    assert slope(WIDTHS, shuffled).value == pytest.approx(found.value)
    # A further power of the width adds.
    steeper = slope(WIDTHS, values * WIDTHS[:, None] ** 1.5)
    assert steeper == pytest.approx([power + 1.5 for power in found], abs=1e-12)


@pytest.mark.parametrize(
    "statistic", [np.median, np.mean, lambda v, axis: np.quantile(v, 0.9, axis=axis)]
)
def test_slopes_are_least_squares_of_the_statistic(statistic):
    # Uneven widths, and spreads that make the statistics differ.
    widths = np.array([10, 30, 40, 500, 700])
    rng = np.random.default_rng(1)
    values = lognormal(rng, spread=1.5, networks=15, widths=widths)
    fitted = np.polyfit(np.log(widths), np.log(statistic(values, axis=1)), 1)[0]
    assert slope(widths, values, statistic).value == pytest.approx(fitted, rel=1e-12)


def test_the_median_is_the_default():
    values = lognormal(np.random.default_rng(2))
    values[:, 0] *= WIDTHS  # a rare network that rules the mean
    assert slope(WIDTHS, values) == slope(WIDTHS, values, np.median)
    assert abs(slope(WIDTHS, values).value + 1) < 0.2
    assert slope(WIDTHS, values, np.mean).value > -0.5


@pytest.mark.parametrize("shared", [False, True])
def test_intervals_have_the_width_of_the_exact_error(shared):
    # Of 400 networks per width the bootstrap takes the variance (1 - 1/400) of what was
    # drawn, known to 4 %; percentiles of 400 resamplings of a normal distribution are
    # known to 7 %. Numbers that all widths share still count as drawn independently.
    rng = np.random.default_rng(3)
    values = lognormal(rng, networks=400)
    if shared:
        values = WIDTHS[:, None] ** -1.0 * np.exp(0.5 * rng.normal(size=400))
    found = slope(WIDTHS, values, geometric_mean)
    assert found.error == pytest.approx(1.96 * exact_error(400), rel=0.25)
    # Central: neither end is off by more than the noise of a percentile.
    for end in (found.value - found.low, found.high - found.value):
        assert end == pytest.approx(1.96 * exact_error(400), rel=0.3)


@pytest.mark.parametrize("statistic", [np.median, geometric_mean])
def test_intervals_hold_the_power_about_as_often_as_they_say(statistic):
    # 95 %, of 200 ensembles known to 2 %. Of 20 networks a bootstrap takes a little
    # less than the variance; its few distinct medians make their interval a bit long.
    held = 0
    for seed in range(200):
        values = lognormal(np.random.default_rng(seed), power=-0.5)
        found = slope(WIDTHS, values, statistic, seed=seed)
        held += found.low <= -0.5 <= found.high
    assert 0.9 <= held / 200 <= 0.985


def test_the_bootstrap_has_a_seed():
    values = lognormal(np.random.default_rng(4))
    first, second = slope(WIDTHS, values, seed=1), slope(WIDTHS, values, seed=2)
    assert first == slope(WIDTHS, values, seed=1)
    assert slope(WIDTHS, values) == slope(WIDTHS, values, seed=0)
    assert first.value == second.value
    assert first.low != second.low
    assert RESAMPLINGS == 400


def test_a_single_network_has_no_spread_to_tell():
    values = lognormal(np.random.default_rng(5), networks=1)
    found = slope(WIDTHS, values)
    assert found == pytest.approx([found.value] * 3)


def test_errors_are_half_of_intervals():
    assert Slope(1.0, 0.5, 2.0).error == 0.75


ONES = np.ones((2, 3))


@pytest.mark.parametrize(
    ("widths", "values", "named", "message"),
    [
        ([8], ONES[:1], {}, "widths must be at least two, > 0, .*got "),
        ([8, 8], ONES, {}, "widths must be at least two, > 0"),
        ([8, 0], ONES, {}, "widths must be at least two, > 0"),
        ([8, math.nan], ONES, {}, "widths must be at least two, > 0"),
        ([8, math.inf], ONES, {}, "widths must be "),
        ([[8, 9]], ONES, {}, "widths must be at least two, > 0"),
        ([8, 9], ONES[:1], {}, r"values must have shape \(2, N\) .*got \(1, 3\)"),
        ([8, 9], ONES[:, 0], {}, r"values must have shape \(2, N\) .*got \(2,\)"),
        ([8, 9], ONES[:, :0], {}, r"values must have shape \(2, N\) .*got \(2, 0\)"),
        ([8, 9], ONES * math.nan, {}, "values must be finite, got NaN or infinity"),
        ([8, 9], ONES * math.inf, {}, "values must be finite, got NaN or infinity"),
        ([8, 9], ONES * 0, {}, "the statistic of values must be finite and not 0"),
        ([8, 9], [[1, 1], [1, -1]], {"statistic": np.mean}, "must be finite and not 0"),
        ([8, 9], ONES, {"seed": -1}, "seed must be an integer >= 0, got -1"),
    ],
)
def test_values_without_a_slope_are_refused(widths, values, named, message):
    with pytest.raises(ValueError, match=message):
        slope(widths, values, **named)


# --- ensembles ----------------------------------------------------------------------


def numbers_of(width, networks):
    """Three numbers per network, and what they were drawn from."""
    rows = [np.random.default_rng(seed).normal(size=3) for seed in networks]
    return [[width, seed, *row] for seed, row in zip(networks, rows, strict=True)]


def ensemble(networks=11, **options):
    def measure(width, seeds):
        return numbers_of(width, seeds)

    return over_widths(measure, [4, 16, 64], networks, **options)


def test_every_network_is_measured_once_with_a_seed_of_its_own():
    values = ensemble()
    assert values.shape == (3, 11, 5)
    np.testing.assert_array_equal(values[..., 0], [[4] * 11, [16] * 11, [64] * 11])
    assert len(np.unique(values[..., 1])) == 33
    for row in values.reshape(-1, 5):
        expected = numbers_of(int(row[0]), [int(row[1])])[0]
        np.testing.assert_array_equal(row, expected)


def test_no_two_of_many_networks_have_the_same_seed():
    # Of 200 000 numbers from 2^32, about 200 000^2 / 2^33 = 5 pairs coincide.
    values = over_widths(
        lambda width, seeds: seeds, [1, 2], 100_000, chunk=100_000, seed=1
    )
    assert len(np.unique(values)) == 200_000


def test_measures_get_plain_numbers_and_at_most_a_chunk():
    seen = []

    def measure(width, seeds):
        seen.append((width, len(seeds)))
        assert type(width) is int
        assert type(seeds) is list
        assert all(type(seed) is int for seed in seeds)
        return np.zeros(len(seeds))

    values = over_widths(measure, np.array([4, 16]), 7, chunk=3)
    assert values.shape == (2, 7)
    assert seen == [(4, 3), (4, 3), (4, 1), (16, 3), (16, 3), (16, 1)]


def test_a_seed_gives_one_ensemble_whatever_the_chunk():
    np.testing.assert_array_equal(ensemble(), ensemble(seed=0))
    for chunk in (1, 4, 11, 100):
        np.testing.assert_array_equal(ensemble(chunk=chunk), ensemble())
    assert not set(ensemble(seed=1)[..., 1].flat) & set(ensemble()[..., 1].flat)


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_jobs_do_not_change_the_result(backend):
    with joblib.parallel_config(backend=backend):
        parallel = ensemble(jobs=2, chunk=2)
    np.testing.assert_array_equal(parallel, ensemble())


def test_a_dask_cluster_gives_the_same_result():
    from distributed import Client, LocalCluster

    cluster = LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None
    )
    with cluster, Client(cluster), joblib.parallel_config(backend="dask"):
        parallel = ensemble(jobs=-1, chunk=2)
    np.testing.assert_array_equal(parallel, ensemble())


@pytest.mark.parametrize("jobs", [1, 2])
def test_progress_is_told(told, jobs):
    with joblib.parallel_config(backend="threading"):
        ensemble(chunk=4, jobs=jobs)
    # Three chunks at each of three widths.
    assert told == [(9, "networks"), *[1] * 9]


def test_powers_of_an_ensemble_are_found():
    # Means over n normal numbers scale as n^(-1/2).
    def measure(width, seeds):
        return [np.random.default_rng(seed).normal(size=width).mean() for seed in seeds]

    widths = [16, 64, 256, 1024]
    values = over_widths(measure, widths, 400)

    def spread(of, axis):
        return of.std(axis=axis)

    found = slope(widths, values, spread)
    # The standard error is 1 / sqrt(2 * 400), over the lever arm of 3.1.
    assert found.value == pytest.approx(-0.5, abs=0.05)
    assert found.low < -0.5 < found.high


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize(
    ("bad", "shape"),
    [
        (lambda width, seeds: 1.0, r"\(\)"),
        (lambda width, seeds: np.ones(len(seeds) + 1), r"\(6,\)"),
        (lambda width, seeds: np.ones((2, len(seeds))), r"\(2, 5\)"),
    ],
)
def test_measures_that_lose_networks_are_refused(bad, shape, jobs):
    message = (
        r"measure must return shape \(5, ...\) for 5 seeds at width 3, got " + shape
    )
    with (
        joblib.parallel_config(backend="threading"),
        pytest.raises(ValueError, match=message),
    ):
        over_widths(bad, [3], 5, jobs=jobs)


def test_measures_whose_shape_depends_on_the_width_are_refused():
    with pytest.raises(ValueError, match=r"measure must return .*width"):
        over_widths(lambda width, seeds: np.ones((len(seeds), width)), [3, 4], 5)


@pytest.mark.parametrize(
    ("name", "bad", "message"),
    [
        ("widths", [], "widths must hold at least one width, got none"),
        ("widths", [4, 0], "widths must be an integer >= 1, got 0"),
        ("widths", [4.5], "widths must be an integer >= 1, got 4.5"),
        ("networks", 0, "networks must be an integer >= 1, got 0"),
        ("seed", -1, "seed must be an integer >= 0, got -1"),
        ("chunk", 0, "chunk must be an integer >= 1, got 0"),
        ("jobs", 0, "jobs must be an integer other than 0, up to 10000, got 0"),
        ("jobs", 1.5, "jobs must be an integer other than 0, up to 10000, got 1.5"),
    ],
)
def test_ensembles_that_make_no_sense_are_refused(name, bad, message):
    good = {
        "measure": numbers_of,
        "widths": [4],
        "networks": 2,
        "seed": 0,
        "chunk": 1,
        "jobs": 1,
    }
    over_widths(**good)
    with pytest.raises(ValueError, match=message):
        over_widths(**good | {name: bad})


def test_statistics_have_to_reduce_the_axis_of_networks():
    with pytest.raises(ValueError, match="statistic must reduce the axis"):
        slope([1, 2], np.ones((2, 3)), statistic=lambda values, axis: values)
