"""Time steps against dense linear algebra and the exponential of the generator.

The step control is watched from outside: a problem whose steps are written down as
they are made and taken, so that what was tried, kept and halved can be recomputed.
"""

import math
import re
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.linalg import expm

from fpbook import time_stepping
from fpbook.finite_volumes import Faces, Grid, axis_jumps, face_rates
from fpbook.time_stepping import (
    SMOOTHING_STEPS,
    TIME_ERROR,
    Marching,
    lu_step,
    strang_step,
)

# A handful of float64 operations: a few units of 1.1e-16, with a margin of 100.
ROUNDING = 1e-13


def axes_of(shape, seed=0):
    """Faces of a rough random potential, and one dense generator per axis."""
    rng = np.random.default_rng(seed)
    grid = Grid([0] * len(shape), [1 + 0.3 * i for i in range(len(shape))], shape)
    levels = rng.normal(size=shape)
    faces = [
        face_rates(grid, axis, (0.1 + 0.05 * axis,) * 3, levels, lambda w: w, None)
        for axis in range(len(shape))
    ]
    none = [Faces(z, 0 * up, 0 * down) for z, up, down in faces]
    size = math.prod(shape)
    matrices = []
    for axis in range(len(shape)):
        jumps = axis_jumps(grid, [*none[:axis], faces[axis], *none[axis + 1 :]])
        rates = np.zeros((size, size))
        np.add.at(rates, (jumps.target, jumps.source), jumps.rate)
        matrices.append(rates - np.diag(rates.sum(axis=0)))
    return faces, matrices


def crank_nicolson(matrix, dt, smooth):
    """One step as a dense matrix, from its definition."""
    identity = np.eye(len(matrix))
    implicit = np.linalg.inv(identity - dt / 2 * matrix)
    return implicit @ implicit if smooth else implicit @ (identity + dt / 2 * matrix)


def density_of(shape, seed=1):
    return np.random.default_rng(seed).uniform(size=shape)


# --- one step -----------------------------------------------------------------------


@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("shape", [(7,), (4, 5)])
def test_lu_step_is_its_definition(shape, smooth):
    _, matrices = axes_of(shape)
    matrix, density = sum(matrices), density_of(shape)
    step = lu_step(sparse.csc_array(matrix), 0.3)
    before = density.copy()
    expected = crank_nicolson(matrix, 0.3, smooth) @ density.ravel()
    np.testing.assert_allclose(
        step(density, smooth), expected.reshape(shape), rtol=0, atol=ROUNDING
    )
    np.testing.assert_array_equal(density, before)


@pytest.mark.parametrize("ratio", [1.0, 1e-100, 1e-300, 0.0])
@pytest.mark.parametrize("smooth", [False, True])
def test_lu_step_where_the_way_back_is_rare(ratio, smooth):
    # From 1e-100 over six cells to 1e-300, whose stationary density no float64 holds.
    ahead = np.random.default_rng(0).uniform(1, 2, size=6)
    rates = np.diag(ahead, -1) + np.diag(ratio * ahead, 1)
    matrix, density = rates - np.diag(rates.sum(axis=0)), density_of(7)
    found = lu_step(sparse.csc_array(matrix), 0.3)(density, smooth)
    expected = crank_nicolson(matrix, 0.3, smooth) @ density
    np.testing.assert_allclose(found, expected, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("shape", [(7,), (4, 5), (3, 5, 4), (3, 2, 4, 3)])
def test_strang_step_is_the_product_of_its_sweeps(shape, smooth):
    faces, matrices = axes_of(shape)
    density = density_of(shape)
    before = density.copy()
    dt, expected = 0.3, density.ravel()
    halves = [crank_nicolson(matrix, dt / 2, smooth) for matrix in matrices[:-1]]
    for sweep in (*halves, crank_nicolson(matrices[-1], dt, smooth), *halves[::-1]):
        expected = sweep @ expected
    result = strang_step(faces, dt)(density, smooth)
    np.testing.assert_allclose(result, expected.reshape(shape), rtol=0, atol=ROUNDING)
    assert result.flags.c_contiguous
    np.testing.assert_array_equal(density, before)


@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("splitting", [False, True])
def test_one_step_misses_the_exponential_by_its_order(splitting, smooth):
    shape = (3, 4, 3)
    faces, matrices = axes_of(shape)
    matrix, density = sum(matrices), density_of(shape)
    fastest = np.abs(np.diag(matrix)).max()
    steps = 0.1 / fastest / np.array([1, 2, 4])
    errors = []
    for dt in steps:
        make = strang_step(faces, dt) if splitting else None
        step = make or lu_step(sparse.csc_array(matrix), dt)
        exact = expm(dt * matrix) @ density.ravel()
        errors.append(np.abs(step(density, smooth).ravel() - exact).sum())
    slope = np.polyfit(np.log(steps), np.log(errors), 1)[0]
    # Local errors dt^3 and dt^2; the next power bends the slope by dt * rate.
    assert slope == pytest.approx(2 if smooth else 3, abs=0.15)


@pytest.mark.parametrize("dt", [1e-3, 1.0, 1e3, 1e6])
@pytest.mark.parametrize("smooth", [False, True])
def test_sweeps_conserve_mass_and_equilibrium_at_any_step(dt, smooth):
    # dt times the largest rate reaches 1e9. With factors that cancel this is lost by
    # as much times 1e-16; without it takes the rounding of 60 + 60 cells in a row.
    grid = Grid([-3, -3], [3, 3], 60)
    levels = (grid.points**2).sum(axis=1).reshape(grid.shape) / 2
    faces = [
        face_rates(grid, axis, (0.3,) * 3, levels, lambda w: w, None) for axis in (0, 1)
    ]
    step = strang_step(faces, dt)
    equilibrium = np.exp(-levels / 0.3)
    assert np.abs(step(equilibrium, smooth) / equilibrium - 1).max() < 1e-11
    assert np.abs(step(equilibrium, smooth) - equilibrium).max() < 1e-14
    start = np.zeros(grid.shape)
    start[10, 50] = 1
    assert step(start, smooth).sum() == pytest.approx(1, abs=1e-14)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.integers(2, 5), min_size=1, max_size=3),
    st.floats(1e-3, 1e3),
    st.integers(0, 2**32 - 1),
)
def test_mass_is_conserved_and_smoothing_keeps_it_positive(lengths, dt, seed):
    shape = tuple(lengths)
    faces, matrices = axes_of(shape, seed)
    density = density_of(shape, seed)
    density /= density.sum()
    steps = [strang_step(faces, dt), lu_step(sparse.csc_array(sum(matrices)), dt)]
    for step in steps:
        # Of the elimination without pivots: rounding times the largest rate times dt.
        for smooth in (True, False):
            assert step(density, smooth).sum() == pytest.approx(1, abs=1e-9)
        assert step(density, True).min() > -1e-9


def test_smoothing_over_a_long_time_leaves_the_equilibrium():
    # Implicit Euler damps all else by 1 / (1 + dt * slowest rate)^2, here 1e-14.
    grid = Grid(-3, 3, 60)
    levels = (grid.points**2).sum(axis=1) / 2
    faces = [face_rates(grid, 0, (0.3,) * 3, levels, lambda w: w, None)]
    equilibrium = np.exp(-levels / 0.3)
    equilibrium /= equilibrium.sum()
    start = np.zeros(60)
    start[7] = 1
    smoothed = strang_step(faces, 2e7)(start, True)
    np.testing.assert_allclose(smoothed, equilibrium, rtol=0, atol=1e-13)


# --- many steps ---------------------------------------------------------------------


@dataclass
class Watched:
    """Decay of two modes by Crank-Nicolson steps, with a diary."""

    rates: tuple = (1.0, 4.0)
    made: list = field(default_factory=list)
    taken: list = field(default_factory=list)  # (dt, smooth, before, after)
    told: list = field(default_factory=list)

    def make_step(self, dt):
        self.made.append(dt)
        z = dt / 2 * np.array(self.rates)

        def step(state, smooth):
            after = state / (1 + z) ** 2 if smooth else state * (1 - z) / (1 + z)
            self.taken.append((dt, smooth, state, after))
            return after

        return step

    def update(self, amount):
        self.told.append(amount)

    def marching(self, volume=1.0):
        return Marching(self.make_step, volume, self)


START = np.array([1.0, 0.5])


def test_equal_steps_divide_each_distance():
    watched = Watched()
    moments = np.array([0.0, 1.0, 1.7])
    states = list(watched.marching().equal_steps(START, moments, 0.3))
    lengths = [dt for dt, *_ in watched.taken]
    np.testing.assert_allclose(lengths, [0.25] * 4 + [0.7 / 3] * 3, rtol=ROUNDING)
    assert watched.told == lengths
    smooth = [smooth for _, smooth, *_ in watched.taken]
    assert smooth == [True, True] + [False] * 5
    assert SMOOTHING_STEPS == 2
    np.testing.assert_array_equal(states[0], START)
    np.testing.assert_array_equal(states[1], watched.taken[3][3])
    np.testing.assert_array_equal(states[2], watched.taken[6][3])
    assert len(watched.made) == 2


@pytest.mark.parametrize("count", [1, 3, 7, 1000])
def test_a_step_that_divides_the_time_but_for_rounding_is_kept(count):
    watched = Watched()
    time = math.fsum([0.1] * count) * (1 + 4e-16)
    list(watched.marching().equal_steps(START, np.array([time]), 0.1))
    assert len(watched.taken) == count


def test_a_step_longer_than_the_run_is_shortened():
    watched = Watched()
    list(watched.marching().equal_steps(START, np.array([0.2]), 5.0))
    assert [dt for dt, *_ in watched.taken] == [0.2]


def test_smoothing_is_for_the_first_steps_of_the_run():
    watched = Watched()
    list(watched.marching().equal_steps(START, np.array([0.1, 0.2, 0.3]), 0.1))
    assert [smooth for _, smooth, *_ in watched.taken] == [True, True, False]


def test_the_last_two_factorisations_are_kept():
    watched = Watched()
    march = watched.marching()
    lengths = np.array([1.0, 2.0, 1.0, 4.0, 1.0, 2.0])
    list(march.equal_steps(START, np.cumsum(lengths), 10.0))
    # 4 drives out 2, although 1 was made before: 1 was used since.
    assert watched.made == [1.0, 2.0, 4.0, 2.0]


def pairs(watched):
    """Group what chosen steps tried: (dt, smooth, state before, fine, coarse)."""
    tried = []
    taken = watched.taken
    assert len(taken) % 3 == 0
    for first, second, whole in zip(taken[::3], taken[1::3], taken[2::3], strict=True):
        assert first[0] == second[0] == whole[0] / 2
        assert first[1] == second[1] == whole[1]
        np.testing.assert_array_equal(first[2], whole[2])
        np.testing.assert_array_equal(first[3], second[2])
        tried.append((first[0], first[1], first[2], second[3], whole[3]))
    return tried


def chosen(moments, first_dt, rates=(1.0, 4.0), volume=1.0):
    watched = Watched(rates)
    states = list(
        watched.marching(volume).chosen_steps(START, np.array(moments), first_dt)
    )
    return watched, states


@pytest.mark.parametrize("volume", [1.0, 1e-3])
@pytest.mark.parametrize("first_dt", [1e-4, 3e-3, 10.0])
def test_chosen_steps_keep_what_is_accurate_and_halve_the_rest(first_dt, volume):
    moments = [0.3, 1.0, 5.0]
    watched, states = chosen(moments, first_dt, volume=volume)
    kept, times = [], [0.0]
    for dt, smooth, before, fine, coarse in pairs(watched):
        np.testing.assert_array_equal(before, kept[-1][3] if kept else START)
        assert smooth == (not kept)
        difference = np.abs(fine - coarse).sum() * volume
        if difference / (1 if smooth else 3) <= TIME_ERROR:
            kept.append((dt, difference, smooth, fine))
            times.append(times[-1] + 2 * dt)
    # All that was kept is told and adds up; every moment is one of the times.
    np.testing.assert_allclose(watched.told, [2 * dt for dt, *_ in kept])
    for moment, state in zip(moments, states, strict=True):
        place = np.abs(np.array(times) - moment).argmin()
        assert times[place] == pytest.approx(moment, rel=ROUNDING)
        np.testing.assert_array_equal(state, kept[place - 1][3])
    # What was tried and not kept is halved.
    for (dt, *_, before, _, _), (after_dt, _, after, _, _) in pairwise(pairs(watched)):
        if before is after:
            assert after_dt == dt / 2


def test_the_first_pair_has_the_length_that_is_asked_for():
    # At most that, as a power of two of the time to go.
    for first_dt, expected in ((1e-4, 1 / 16384), (0.9, 0.5), (7.0, 0.5)):
        watched, _ = chosen([1.0], first_dt)
        assert watched.taken[0][0] == expected


def test_chosen_steps_grow_as_the_decay_slows_down_and_never_too_far():
    watched, states = chosen([8.0], 1e-4)
    tried = pairs(watched)
    lengths = [dt for dt, *_ in tried]
    assert len(watched.told) == len(tried)  # nothing was rejected
    ratios = {b / a for a, b in pairwise(lengths)}
    assert ratios == {1.0, 2.0}
    # Double where the error is below a twelfth, after 8 times less than the rest: the
    # steps are not shorter than needed, so that they are few.
    errors = np.array(
        [np.abs(fine - coarse).sum() / 3 for _, _, _, fine, coarse in tried]
    )
    assert errors[errors > TIME_ERROR / 12].size > len(errors) / 3
    exact = START * np.exp(-8.0 * np.array([1.0, 4.0]))
    assert np.abs(states[0] - exact).sum() < 10 * TIME_ERROR


def test_chosen_steps_are_remembered_from_time_to_time():
    watched, _ = chosen(np.linspace(0, 4, 33), 1e-3)
    tried = pairs(watched)
    # A new time starts with the step of the last one: no search from 1e-3 again.
    assert len(tried) - len(watched.told) < 5
    assert min(dt for dt, *_ in tried[len(tried) // 2 :]) > 0.01


def test_a_time_zero_takes_no_step():
    watched, states = chosen([0.0, 0.5], 1e-2)
    np.testing.assert_array_equal(states[0], START)
    alone, (state,) = chosen([0.5], 1e-2)
    np.testing.assert_array_equal(states[1], state)
    assert watched.told == alone.told
    assert chosen([0.0], 1e-2)[0].taken == []


def test_steps_that_never_get_accurate_are_refused():
    made = []

    class Bar:
        def update(self, amount):
            raise AssertionError("no step was accepted")

    def make_step(dt):
        made.append(dt)
        return lambda state, smooth: -state  # two steps never agree with one

    march = Marching(make_step, 1.0, Bar())
    with pytest.raises(
        FloatingPointError, match=r"steps of 1\.9e-09 at time 0 are still too long"
    ):
        list(march.chosen_steps(START, np.array([1.0, 2.0]), 1.0))
    # A billionth of the run, 2: 2^-29 = 1.9e-9 is the first step below.
    assert min(made) == pytest.approx(2.0**-28)


def test_the_refusal_names_the_time():
    class Bar:
        def update(self, amount):
            pass

    clock = [0.0]

    def make_step(dt):
        def step(state, smooth):
            return state if clock[0] < 3 else -state

        return step

    march = Marching(make_step, 1.0, Bar())
    states = march.chosen_steps(START, np.array([0.75, 1.5]), 1.0)
    next(states)
    clock[0] = 4.0
    message = re.escape("at time 0.75 are still too long")
    with pytest.raises(FloatingPointError, match=message):
        next(states)


def test_the_constants_are_those_of_the_text():
    # The docstring of ``evolve`` states them.
    assert TIME_ERROR == 3e-6
    assert time_stepping.SHORTEST_STEP == 1e-9
