"""Checks of arguments: what they take, what they turn it into, what they refuse."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fpbook.validation import (
    LARGEST,
    LARGEST_COUNT,
    MOST_JOBS,
    require_all_non_negative,
    require_all_positive,
    require_array,
    require_between,
    require_broadcast,
    require_callable,
    require_choice,
    require_covariance,
    require_density,
    require_edges,
    require_factors,
    require_finite,
    require_flag,
    require_generator,
    require_integer,
    require_integer_between,
    require_integers,
    require_jobs,
    require_matrix,
    require_no_flags,
    require_non_negative,
    require_on_grid,
    require_positive,
    require_real,
    require_returned,
    require_seed,
    require_snapshots,
    require_symmetric,
    require_times,
    require_type,
    require_walkers,
)

NOT_FINITE = (math.nan, math.inf, -math.inf)
SKEW, INDEFINITE = [[1.0, 0.5], [0.4, 1.0]], [[1.0, 2.0], [2.0, 1.0]]


def refuses(function, *arguments, **named):
    with pytest.raises(ValueError, match=r"^x must .*got "):
        function(*arguments, **named)


def test_numbers_are_positive_or_not_negative():
    for single, many, zero in (
        (require_positive, require_all_positive, False),
        (require_non_negative, require_all_non_negative, True),
    ):
        single(x=1e-300, y=3)
        many(x=np.array([1.0, 2.0]), y=3)
        for bad in (-1e-300, *NOT_FINITE):
            refuses(single, y=1.0, x=bad)
            refuses(many, x=np.array([1.0, bad]))
        refuses(single, x=np.ones(2))
        if zero:
            single(x=0.0)
            many(x=np.zeros(2))
        else:
            refuses(single, x=0.0)
            refuses(many, x=np.array([1.0, 0.0]))


NOT_REAL = ("1", None, object(), 1j, True, [True], ["a"], [None], [[1.0], [1.0, 2.0]])


def test_real_numbers_are_no_text_and_no_truth():
    for good in (
        1,
        1.5,
        np.float32(2),
        [1, 2.5],
        np.ones((2, 0)),
        math.nan,
        [math.inf],
    ):
        assert require_real("x", good).dtype == np.float64
    for bad in NOT_REAL:
        refuses(require_real, "x", bad)
        refuses(require_positive, x=bad)
        refuses(require_finite, x=bad)
        refuses(require_between, 0, 2, x=bad)
    require_finite(x=-LARGEST, y=0)
    require_between(-1, 1, x=-1, y=1.0)
    for bad in (*NOT_FINITE, 2 * LARGEST, np.ones(1)):
        refuses(require_finite, x=bad)
        refuses(require_between, 0, 1, x=bad)
    for function in (require_positive, require_non_negative):
        function(x=LARGEST)
        with pytest.raises(
            ValueError, match=r"^x must be at most 1e\+150, got 1e\+151"
        ):
            function(x=1e151)


def test_arrays_have_their_shape():
    assert require_array("x", [[1, 2]]).shape == (1, 2)
    assert require_array("x", 3.0).shape == ()
    for shape in ((2, 3), ("n", 3), ("n", "d"), ("...", 3), ("...", 2, "d"), ("...",)):
        assert require_array("x", np.ones((2, 3)), shape).shape == (2, 3)
    for shape in ((3, 2), (3,), ("n",), ("n", 2), ("...", 2), ("...", 1, 2, 3)):
        refuses(require_array, "x", np.ones((2, 3)), shape)
    for shape in (None, ("n", 3), ("...", 3)):
        refuses(require_array, "x", np.ones((0, 3)), shape)
    for bad in (*NOT_FINITE, 2 * LARGEST, *NOT_REAL):
        refuses(require_array, "x", bad)


def test_what_functions_return_is_checked_by_their_name():
    assert require_returned("x", [1, 2], (2,)).dtype == np.float64
    told = r"^(what )?x (must return|returns must be) .*got "
    for bad in (np.ones(3), [1.0, math.nan], "text", None, [1j, 1j]):
        with pytest.raises(ValueError, match=told):
            require_returned("x", bad, (2,))


def test_kinds_are_checked():
    require_type(str, x="a")
    require_type((int, str), x=1, y="a")
    require_callable(x=len)
    require_flag(x=True, y=np.bool_(False))
    for function, bad in (
        (lambda x: require_type(str, x=x), 1),
        (lambda x: require_type((int, str), x=x), 1.0),
        (lambda x: require_callable(x=x), "len"),
        (lambda x: require_flag(x=x), "no"),
        (lambda x: require_flag(x=x), 1),
        (lambda x: require_flag(x=x), None),
    ):
        with pytest.raises(TypeError, match=r"^x must be .*got "):
            function(bad)


def test_seeds_may_be_large_and_jobs_may_not():
    for good in (0, 10**30, np.int64(3)):
        require_seed(good)
        require_generator(good)
    rng = np.random.default_rng(0)
    assert require_generator(rng) is rng
    for bad in (-1, 1.5, True, "1", None, [1]):
        with pytest.raises(ValueError, match=r"^seed must be .*got "):
            require_seed(bad)
        with pytest.raises(ValueError, match=r"^seed must be .*got "):
            require_generator(bad)
    with pytest.raises(ValueError, match=r"^seed must be .*got "):
        require_seed(rng)
    for good in (1, -1, MOST_JOBS, -MOST_JOBS):
        require_jobs(good)
    for bad in (0, 1.0, True, None, MOST_JOBS + 1, -MOST_JOBS - 1):
        with pytest.raises(ValueError, match=r"^jobs must be .*got "):
            require_jobs(bad)


def test_several_integers_are_counted_from_a_smallest_one():
    for good in ([1, 3], (3, 1), np.array([1, 3])):
        assert sorted(require_integers("x", good, 1).tolist()) == [1, 3]
    for bad in ([], [0], [1.0], [True], "12", 1, None, [LARGEST_COUNT + 1]):
        refuses(require_integers, "x", bad, 1)
    assert require_snapshots(None, 4) == [4]
    assert require_snapshots(2, 4) == [2]
    assert require_snapshots(np.array([0, 4]), 4) == [0, 4]
    for bad in ([], [1, 1], [2, 1], [-1], [5], [1.0], [0, True], [[1]], "1", [None]):
        refuses(require_snapshots, bad, 4, "x")


def test_integers_know_their_bounds():
    require_integer(2, x=2, y=np.int64(7))
    require_integer_between(0, 3, x=0, y=np.int32(3))
    for bad in (1, 2.0, "2", None, LARGEST_COUNT + 1):
        refuses(require_integer, 2, y=2, x=bad)
    refuses(require_integer, 0, x=True)
    for bad in (-1, 4, 1.0, None, True):
        refuses(require_integer_between, 0, 3, y=1, x=bad)


@given(st.lists(st.integers(-2, 8), max_size=5), st.integers(0, 6))
def test_snapshots_pass_if_and_only_if_they_increase_within_the_steps(kept, steps):
    inside = all(0 <= step <= steps for step in kept)
    if kept and inside and kept == sorted(set(kept)):
        assert require_snapshots(kept, steps) == kept
        assert require_snapshots(np.array(kept), steps) == kept
    else:
        with pytest.raises(ValueError, match=r"^snapshots must be increasing .*got "):
            require_snapshots(kept, steps)


def test_truths_in_lists_are_no_numbers():
    require_no_flags("x", [0, 1])
    require_no_flags("x", np.array([0, 1]))
    refuses(require_no_flags, "x", [0, True])


def test_shapes_broadcast():
    require_broadcast(x=1.0, y=np.ones((2, 1)), z=np.ones(3))
    with pytest.raises(ValueError, match=r"^x, y must have shapes that fit .*got "):
        require_broadcast(x=np.ones(2), y=np.ones(3))


def test_choices_are_listed():
    require_choice(("a", None), x="a", y=None)
    with pytest.raises(ValueError, match=r"^x must be one of \('a', None\), got 'b'"):
        require_choice(("a", None), x="b")


def test_times_and_edges_increase():
    np.testing.assert_array_equal(require_times(0), [0.0])
    np.testing.assert_array_equal(require_times((0, 2)), [0.0, 2.0])
    np.testing.assert_array_equal(require_edges([-1, 2]), [-1.0, 2.0])
    for bad in ([], [-1.0], [1.0, 1.0], [2.0, 1.0], [0.0, math.inf], [[1.0]]):
        with pytest.raises(ValueError, match=r"^times must .*got "):
            require_times(bad)
    for bad in (1.0, [1.0], [1.0, 1.0], [0.0, math.nan, 1.0], [[0.0, 1.0]]):
        with pytest.raises(ValueError, match=r"^edges must .*got "):
            require_edges(bad)


def test_matrices_are_finite_and_have_two_axes():
    np.testing.assert_array_equal(require_matrix("x", 3), [[3.0]])
    assert require_matrix("x", np.ones((2, 3))).shape == (2, 3)
    for bad in ([1.0], np.ones((1, 1, 1)), math.nan, [[1.0, math.inf]]):
        refuses(require_matrix, "x", bad)


@pytest.mark.parametrize("function", [require_symmetric, require_covariance])
def test_symmetric_matrices_may_be_numbers(function):
    np.testing.assert_array_equal(function("x", 3), [[3.0]])
    np.testing.assert_array_equal(function("x", 3, 2), [[3.0, 0.0], [0.0, 3.0]])
    # Rounding is relative to the largest entry, and forgiven up to 1e-12.
    assert function("x", [[1e6, 1e-7], [0.0, 1e6]]).shape == (2, 2)
    for bad in ([1.0], np.ones((2, 3)), SKEW, np.full((2, 2), math.inf), [[]]):
        refuses(function, "x", bad)
    refuses(function, "x", [[1e6, 1e-5], [0.0, 1e6]])
    refuses(function, "x", np.eye(2), 3)


def test_covariances_are_semidefinite():
    require_symmetric("x", INDEFINITE)
    require_covariance("x", [[1.0, 1.0], [1.0, 1.0 - 1e-13]])
    require_covariance("x", 0.0)
    for bad in (INDEFINITE, -1.0, [[1.0, 1.0], [1.0, 1.0 - 1e-11]]):
        refuses(require_covariance, "x", bad)


def test_factors_fit_each_other():
    first, second = require_factors(3, W=np.ones((5, 2, 3)), x=np.ones((5, 3, 2)))
    assert (second @ first).shape == (5, 3, 3)
    for bad in (1.0, np.ones(3), np.ones((3, 2))):
        refuses(require_factors, 3, x=bad, y=np.ones((3, 2)))
    for bad in (1.0, np.ones((2, 3)), np.ones((5, 3, 2)), np.ones((3, 3))):
        refuses(require_factors, 3, W=np.ones((2, 3)), x=bad)


def test_walkers_are_finite_points():
    assert require_walkers("x", [[1, 2]]).dtype == np.float64
    assert require_walkers("x", np.ones((3, 2)), 2).shape == (3, 2)
    for bad in (1.0, np.ones(3), np.ones((0, 2)), np.ones((3, 0)), [[math.nan]]):
        refuses(require_walkers, "x", bad)
    refuses(require_walkers, "x", np.ones((3, 2)), 3)


def test_densities_have_mass_one_on_their_grid():
    widths = np.array([1.0, 3.0])
    density = np.array([0.4, 0.2])
    np.testing.assert_array_equal(require_density("x", density, (2,), widths), density)
    require_density("x", [0.5, 0.5 + 0.9e-6], (2,), 1.0)
    require_density("x", [-0.9e-6, 1.0], (2,), 1.0)
    for bad in (
        [0.5, 0.5 + 1.1e-6],
        [0.5, 0.5 - 1.1e-6],
        [-1.1e-6, 1.0 + 1.1e-6],
        [0.5, math.nan],
        [1.0],
    ):
        refuses(require_density, "x", bad, (2,), 1.0)
    assert require_on_grid("x", [[-3, 2]], (1, 2)).dtype == np.float64
    for bad in ([1.0, 2.0], [[math.inf, 1.0]]):
        refuses(require_on_grid, "x", bad, (1, 2))
