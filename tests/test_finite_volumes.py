"""Finite volumes: cells against quadrature, rates against exact fluxes and moments.

The exact flux between two centres, for any drift and diffusion, follows from the
integrating factor of the stationary equation; it is evaluated by adaptive quadrature.
The rates of a full tensor are held against the moments that define the equation.
"""

import re
import warnings
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse, special
from scipy.integrate import dblquad, quad

from fpbook import finite_volumes
from fpbook.finite_volumes import (
    Grid,
    axis_jumps,
    face_rates,
    gaussian,
    on_grid,
    read_diffusion,
    sides,
    tensor_jumps,
)

# A handful of float64 operations: a few units of 1.1e-16, with a margin of 100.
ROUNDING = 1e-13


def matrix(jumps, cells):
    """Rates as a matrix: column is the cell left, row the cell reached."""
    return sparse.coo_array(
        (jumps.rate, (jumps.target, jumps.source)), shape=(cells, cells)
    ).toarray()


# --- the grid -----------------------------------------------------------------------


def test_grid_of_one_axis():
    grid = Grid(-1, 2, 6)
    assert grid.shape == (6,)
    assert grid.spacing == (0.5,)
    assert grid.cell_volume == 0.5
    np.testing.assert_allclose(grid.edges[0], np.arange(-1, 2.1, 0.5), atol=1e-15)
    np.testing.assert_allclose(grid.centers[0], np.arange(-0.75, 2, 0.5), atol=1e-15)
    np.testing.assert_array_equal(grid.points, grid.centers[0][:, None])


@pytest.mark.parametrize(
    "cells", [(2, 5, 3), [2, 5, 3], np.array([2, 5, 3], dtype=np.uint8)]
)
def test_grid_of_three_axes(cells):
    grid = Grid([0, -1, 10], [1, 4, 16], cells)
    assert grid.shape == (2, 5, 3)
    assert all(type(n) is int for n in grid.shape)
    assert grid.spacing == (0.5, 1.0, 2.0)
    assert grid.cell_volume == 1.0
    assert [len(edge) for edge in grid.edges] == [3, 6, 4]
    for edge, center, h in zip(grid.edges, grid.centers, grid.spacing, strict=True):
        np.testing.assert_allclose(center - edge[:-1], h / 2, rtol=ROUNDING)
        np.testing.assert_allclose(edge[1:] - center, h / 2, rtol=ROUNDING)


def test_one_number_of_cells_holds_for_all_axes():
    assert Grid([0, 0, 0, 0], [1, 1, 1, 1], 3).shape == (3, 3, 3, 3)


def test_points_are_in_the_order_of_the_shape():
    grid = Grid([0, -1, 10], [1, 4, 16], [2, 5, 3])
    points = grid.points.reshape(*grid.shape, 3)
    for index in np.ndindex(grid.shape):
        expected = [center[i] for center, i in zip(grid.centers, index, strict=True)]
        np.testing.assert_array_equal(points[index], expected)


def test_a_grid_prints_as_it_is_made():
    grid = Grid([0, -1.5], [1, 4], [2, 5])
    again = eval(repr(grid))
    assert repr(grid) == "Grid([0.0, -1.5], [1.0, 4.0], [2, 5])"
    assert (again.shape, again.spacing) == (grid.shape, grid.spacing)
    np.testing.assert_array_equal(again.edges[1], grid.edges[1])


@pytest.mark.parametrize(
    ("lower", "upper", "cells", "message"),
    [
        ([0] * 5, [1] * 5, 2, r"lower must have 1 to 4 entries, got \[0, 0, 0, 0, 0\]"),
        ([], [], 2, "lower must have 1 to 4 entries"),
        ([[0, 0]], [[1, 1]], 2, "lower must have 1 to 4 entries"),
        ([0, 0], 1, 2, r"upper must have as many entries as lower \(2\), got 1"),
        (0, 0, 2, "upper must be above lower .* got lower 0 and upper 0"),
        ([0, 1], [1, 0], 2, "upper must be above lower along each axis"),
        (0, np.inf, 2, "both finite"),
        (np.nan, 1, 2, "both finite"),
        (0, 1, 1, r"cells must be an integer >= 2, or 1 of them, got 1"),
        (0, 1, 2.0, "cells must be an integer >= 2, or 1 of them, got 2.0"),
        (0, 1, True, "cells must be an integer"),
        ([0, 0], [1, 1], [2, 1], r"or 2 of them, got \[2, 1\]"),
        ([0, 0], [1, 1], [2, 2, 2], "cells must be an integer"),
        ([0, 0], [1, 1], [4], "cells must be an integer"),
    ],
)
def test_bad_grids_are_refused(lower, upper, cells, message):
    with pytest.raises(ValueError, match=message):
        Grid(lower, upper, cells)


# --- normal densities ---------------------------------------------------------------


def normal(w, mean, std):
    return np.exp(-(((w - mean) / std) ** 2) / 2) / np.sqrt(2 * np.pi) / std


def test_gaussian_is_the_average_over_each_cell():
    grid, mean, std = Grid(-3, 2, 11), -0.3, 0.6
    density = gaussian(grid, mean, std)
    for i, (a, b) in enumerate(zip(grid.edges[0], grid.edges[0][1:], strict=False)):
        mass = quad(normal, a, b, args=(mean, std), epsabs=0, epsrel=1e-12)[0]
        # quad is asked for 1e-12
        assert density[i] == pytest.approx(mass / (b - a), rel=1e-11)


def test_gaussian_is_a_product_over_the_axes():
    grid = Grid([-1, -2], [2, 1], [3, 4])
    density = gaussian(grid, [0.4, -0.2], [0.7, 0.5])
    assert density.shape == (3, 4)
    (x, y), volume = grid.edges, grid.cell_volume
    for i, j in np.ndindex(3, 4):
        mass = dblquad(
            lambda v, u: normal(u, 0.4, 0.7) * normal(v, -0.2, 0.5),
            *(x[i], x[i + 1], y[j], y[j + 1]),
            epsabs=1e-13,
        )[0]
        assert density[i, j] == pytest.approx(mass / volume, abs=1e-11)
    np.testing.assert_array_equal(
        gaussian(grid, 0.3, 0.5), gaussian(grid, [0.3, 0.3], [0.5, 0.5])
    )


def test_gaussian_keeps_its_digits_in_both_tails():
    grid = Grid(-30, 30, 120)
    density = gaussian(grid, 0, 1)
    # Each side mirrors the other: neither is a difference of numbers next to 1.
    np.testing.assert_allclose(density, density[::-1], rtol=1e-15)
    first, second = special.log_ndtr([-29.5, -30.0])
    expected = np.exp(first + np.log1p(-np.exp(second - first))) / 0.5
    # e^-435 from its logarithm: 435 units of rounding
    assert density[0] == pytest.approx(expected, rel=1e-12, abs=0)
    assert density[-1] == pytest.approx(expected, rel=1e-12, abs=0)


def test_gaussian_cuts_off_what_is_outside():
    grid = Grid(-1, 2, 50)
    mass = gaussian(grid, 1.0, 0.8).sum() * grid.cell_volume
    expected = special.ndtr(1 / 0.8) - special.ndtr(-2 / 0.8)
    assert mass == pytest.approx(expected, rel=ROUNDING)


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ([0, 0, 0], 1, r"mean must be a finite number or 2 of them, one per axis, got"),
        (np.nan, 1, "mean must be a finite number"),
        (0, [1], "std must be a finite number or 2"),
        (0, np.inf, "std must be a finite number"),
        (0, 0, "std must be > 0, got 0"),
        (0, [1, -1], r"std must be > 0, got \[1, -1\]"),
    ],
)
def test_gaussian_refuses(mean, std, message):
    with pytest.raises(ValueError, match=message):
        gaussian(Grid([0, 0], [1, 1], 2), mean, std)


# --- coefficients on the grid -------------------------------------------------------


@pytest.mark.parametrize("at_once", [1, 7, 12, 13, 2**18])
@pytest.mark.parametrize("inner", [(), (3,), (2, 2)])
def test_slabs_do_not_show(at_once, inner, monkeypatch):
    grid = Grid([0, -1, 10], [1, 4, 16], [2, 5, 3])
    sizes = []

    def function(points):
        sizes.append(len(points))
        weights = np.arange(1.0, 3 * np.prod(inner, dtype=int) + 1).reshape(3, -1)
        return (points @ weights).reshape(len(points), *inner)

    whole = function(grid.points).reshape(*grid.shape, *inner)
    monkeypatch.setattr(finite_volumes, "POINTS_AT_ONCE", at_once)
    sizes.clear()
    np.testing.assert_array_equal(
        on_grid("function", function, grid.centers, inner), whole
    )
    # Never more than asked for, but for one layer of the first axis, here 15 points.
    assert max(sizes) <= max(at_once, 15)
    assert sum(sizes) == 30


def test_values_of_the_wrong_shape_are_refused():
    grid = Grid([0, 0], [1, 1], [2, 3])
    with pytest.raises(
        ValueError,
        match=re.escape(
            "potential must return shape (n) for points of shape (n, 2), "
            "got (6, 1) for n = 6"
        ),
    ):
        on_grid("potential", lambda w: w[:, :1], grid.centers, ())
    with pytest.raises(ValueError, match=r"drift must return shape \(n, 2\) .* \(6,\)"):
        on_grid("drift", lambda w: w[:, 0], grid.centers, (2,))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_located(value):
    grid = Grid([0, 0], [1, 1], [2, 2])

    def drift(points):
        hit = (points[:, 0] > 0.5) & (points[:, 1] < 0.5)
        return np.where(hit[:, None], [0.0, value], points)

    with pytest.raises(
        ValueError, match=r"drift must be finite .* is not at \[0\.75 0\.25\]"
    ):
        on_grid("drift", drift, grid.centers, (2,))


def test_read_diffusion_tells_constants_diagonals_and_tensors_apart():
    grid = Grid([0, 0], [1, 1], [2, 3])
    constant, values = read_diffusion(grid, 0.5)
    np.testing.assert_array_equal(constant, [0.5, 0.5])
    assert values is None
    constant, _ = read_diffusion(grid, [0.5, 0.0])
    assert constant[0] == 0.5
    assert 0 < constant[1] < 1e-11
    constant, values = read_diffusion(grid, lambda w: 1 + w)
    assert constant is None
    np.testing.assert_array_equal(values, 1 + grid.points.reshape(2, 3, 2))
    _, values = read_diffusion(grid, lambda w: np.ones((len(w), 2, 2)))
    assert values.shape == (2, 3, 2, 2)


def rotated(smaller, larger, angle):
    c, s = np.cos(angle), np.sin(angle)
    turn = np.array([[c, -s], [s, c]])
    return turn @ np.diag([smaller, larger]) @ turn.T


def constantly(tensor):
    return lambda w: np.broadcast_to(tensor, (len(w), *np.shape(tensor)))


@pytest.mark.parametrize(
    ("diffusion", "message"),
    [
        (-1.0, "diffusion must be >= 0 and not zero everywhere, got -1.0"),
        (0.0, "diffusion must be >= 0 and not zero everywhere, got 0.0"),
        ([1.0, -1e-9], "diffusion must be >= 0"),
        ([0, 0], r"not zero everywhere, got \[0, 0\]"),
        (np.nan, "diffusion must be a finite number or 2 of them"),
        ([1, 1, 1], "diffusion must be a finite number or 2 of them"),
        ([[1, 0], [0, 1]], "diffusion must be a finite number or 2 of them"),
        (lambda w: w - 0.3, "got values from -0.05 to 0.45"),
        (lambda w: 0 * w, "got values from 0 to 0"),
        (lambda w: w[:, 0], r"diffusion must return shape \(n, 2\)"),
        (lambda w: w * np.nan, "diffusion must be finite on the whole grid"),
        (constantly(np.eye(3)), r"diffusion must return shape \(n, 2, 2\)"),
        (constantly([[1.0, 0.1], [0.2, 1.0]]), "must be a symmetric tensor"),
        (constantly(rotated(-0.1, 1.0, 0.4)), "got values from -0.1 to 1"),
        (constantly(np.zeros((2, 2))), "got values from 0 to 0"),
    ],
)
def test_read_diffusion_refuses(diffusion, message):
    with pytest.raises(ValueError, match=message):
        read_diffusion(Grid([0, 0], [1, 1], [2, 2]), diffusion)


def test_a_tensor_of_rank_one_is_not_negative():
    # Its smaller eigenvalue is zero but for rounding, here of order -1e-17.
    vectors = np.random.default_rng(1).normal(size=(16, 2))
    tensors = vectors[:, :, None] * vectors[:, None, :]
    assert np.linalg.eigvalsh(tensors).min() < 0
    grid = Grid([0, 0], [1, 1], 4)
    values = read_diffusion(grid, lambda w: tensors[: len(w)])[1]
    np.testing.assert_array_equal(values.reshape(-1, 2, 2), tensors)


# --- fluxes along an axis -----------------------------------------------------------


def exact_rates(drift, diffusion, left, right):
    """Rates (up, down) over the gap of two centres, from the integrating factor.

    The flux J = a p - (D p)' that is constant between two centres is
    J = [D p(left) - e^z D p(right)] / int e^{-int a / D}, with both D at their places.
    """

    def weight(w):
        return np.exp(-quad(lambda v: drift(v) / diffusion(v), left, w)[0])

    h = right - left
    total = quad(weight, left, right, epsabs=1e-13, epsrel=1e-13)[0]
    up = diffusion(left) / total / h
    return up, weight(right) * diffusion(right) / total / h


def one_axis(grid, drift, diffusion):
    """Faces of a one-dimensional grid for a drift and a diffusion of one number."""
    return face_rates(
        grid,
        0,
        finite_volumes.diffusion_at_nodes(diffusion, diffusion(grid.points), grid, 0),
        drift(grid.points),
        None,
        drift,
    )


@settings(max_examples=60, deadline=None)
@given(
    drift=st.floats(-20, 20),
    diffusion=st.floats(0.05, 3),
    h=st.floats(0.05, 1),
)
def test_constant_coefficients_have_their_exact_flux(drift, diffusion, h):
    grid = Grid(0, 3 * h, 3)
    known = np.full((3, 1), drift)
    faces = face_rates(grid, 0, (diffusion,) * 3, known, None, lambda w: 0 * w + drift)
    z = -drift * h / diffusion
    for rates, sign in ((faces.up, 1), (faces.down, -1)):
        # exp(z) - 1 loses digits near 0, unlike the code: hence the absolute part
        bernoulli = sign * z / np.expm1(sign * z) if z else 1.0
        expected = diffusion / h**2 * bernoulli
        np.testing.assert_allclose(rates, expected, rtol=1e-12)
    np.testing.assert_allclose(faces.z, z, rtol=ROUNDING, atol=1e-300)
    # the drift of the chain is the drift, exactly
    np.testing.assert_allclose(
        h * (faces.up - faces.down), drift, rtol=1e-10, atol=1e-12 * diffusion / h
    )


def test_rates_between_centres_converge_to_the_exact_flux():
    # The ratio of the rates is e^z, Simpson's: error h^5. Their size has D in the
    # harmonic mean instead of the weighted one: error h^2, relatively.
    def drift(w):
        return 1.0 + 0.5 * w - w**3

    def diffusion(w):
        return 0.5 + 0.3 * np.sin(2 * w)

    ratios, sizes = [], []
    widths = 0.4 / np.array([1, 2, 4])
    for h in widths:
        faces = one_axis(Grid(0.5 - h, 0.5 + h, 2), drift, diffusion)
        up, down = exact_rates(drift, diffusion, 0.5 - h / 2, 0.5 + h / 2)
        ratios.append(faces.z[0] - np.log(down / up))
        sizes.append(faces.up[0] / up - 1)
    # Slopes at finite h are off by the ratio of the next order, here below 0.2.
    assert np.polyfit(np.log(widths), np.log(np.abs(ratios)), 1)[0] == pytest.approx(
        5, abs=0.3
    )
    assert np.polyfit(np.log(widths), np.log(np.abs(sizes)), 1)[0] == pytest.approx(
        2, abs=0.2
    )


def test_potential_and_its_drift_agree_to_fifth_order():
    def potential(w):
        return w[:, 0] ** 4 / 4 - w[:, 0] + 0.3 * np.sin(3 * w[:, 0])

    def drift(w):
        return -(w**3) + 1 - 0.9 * np.cos(3 * w)

    def diffusion(w):
        return 0.5 + 0.3 * w**2

    gaps = []
    cells = np.array([20, 40, 80])
    for n in cells:
        grid = Grid(-1, 1.5, int(n))
        nodes = finite_volumes.diffusion_at_nodes(
            diffusion, diffusion(grid.points), grid, 0
        )
        by_potential = face_rates(
            grid, 0, nodes, potential(grid.points), potential, None
        )
        by_drift = face_rates(grid, 0, nodes, drift(grid.points), None, drift)
        gaps.append(np.abs(by_potential.z - by_drift.z).max())
    slope = np.polyfit(np.log(cells), np.log(gaps), 1)[0]
    assert slope == pytest.approx(-5, abs=0.3)


def test_pure_diffusion_has_the_exponential_of_its_logarithm():
    # D = e^w: the harmonic mean is h e^w0 / (1 - e^-h), and z / (e^z - 1) has z = h.
    grid = Grid(0, 2, 8)
    faces = one_axis(grid, lambda w: 0 * w, np.exp)
    at_centers, h = np.exp(grid.centers[0]), grid.spacing[0]
    # Simpson's error of the mean of 1 / D is h^4 / 2880.
    factor = pytest.approx(1 / (2 * np.sinh(h / 2)) ** 2, rel=h**4 / 2000)
    assert faces.up[3] / at_centers[3] == factor
    assert faces.down[3] / at_centers[4] == factor
    # D p is what flows without drift, to rounding: e^z is the ratio of the D.
    np.testing.assert_allclose(
        faces.up * at_centers[1:], faces.down * at_centers[:-1], rtol=ROUNDING
    )


@pytest.mark.parametrize("drift", [-3.0, 3.0])
def test_without_diffusion_rates_are_those_of_transport(drift):
    # Peclet numbers of 1e12 and more: upwind, and never a number that overflows.
    grid = Grid([0, 0], [1, 2], [5, 4])
    constant = read_diffusion(grid, [1.0, 0.0])[0]
    known = np.full((*grid.shape, 2), drift)
    faces = face_rates(
        grid, 1, (constant[1],) * 3, known, None, lambda w: 0 * w + drift
    )
    forward, backward = (faces.up, faces.down) if drift > 0 else (faces.down, faces.up)
    # D / h^2 = 1e-12 times 4 is added, nothing else
    np.testing.assert_allclose(forward, 3.0 / grid.spacing[1], rtol=1e-11)
    np.testing.assert_array_equal(backward, 0)


@pytest.mark.parametrize("cells", [10, 11])
def test_diffusion_may_vanish_on_a_face_or_in_a_cell(cells):
    # Noise that dies at w = 0: a face of 10 cells, a centre of 11.
    grid = Grid(-1, 1, cells)
    diffusion, drift = (lambda w: w**2), (lambda w: 0 * w + 2.0)
    values = read_diffusion(grid, diffusion)[1]
    nodes = finite_volumes.diffusion_at_nodes(diffusion, values, grid, 0)
    faces = face_rates(grid, 0, nodes, drift(grid.points), None, drift)
    middle = slice(4, 5) if cells == 10 else slice(4, 6)
    # There is transport only; Simpson gives the face a share of 4 / 6 in both factors.
    np.testing.assert_allclose(faces.up[middle], 2 / grid.spacing[0], rtol=1e-8)
    np.testing.assert_allclose(faces.down[middle], 0, atol=1e-8)
    assert np.all(np.isfinite(faces.z))


def test_diffusion_that_is_negative_on_a_face_only_is_refused():
    grid = Grid(0, 8, 8)
    diffusion = lambda w: np.cos(2 * np.pi * (w - 0.5))  # noqa: E731
    values = read_diffusion(grid, diffusion)[1]
    with pytest.raises(ValueError, match="got values from -1 to 1"):
        finite_volumes.diffusion_at_nodes(diffusion, values, grid, 0)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_sides_are_the_neighbours_along_an_axis(axis):
    index = np.arange(24).reshape(2, 3, 4)
    left, right = sides(axis, 3)
    stride = (12, 4, 1)[axis]
    np.testing.assert_array_equal(index[right] - index[left], stride)
    assert index[left].shape[axis] == index.shape[axis] - 1


def test_axis_jumps_are_nearest_neighbours():
    grid = Grid([0, 0], [1, 3], [2, 3])
    points = grid.points
    faces = [
        face_rates(
            grid,
            axis,
            (0.5,) * 3,
            (points**2).sum(axis=1).reshape(grid.shape),
            lambda w: (w**2).sum(axis=1),
            None,
        )
        for axis in (0, 1)
    ]
    jumps = axis_jumps(grid, faces)
    np.testing.assert_allclose(
        points[jumps.target] - points[jumps.source], jumps.displacement, atol=1e-15
    )
    h = np.abs(jumps.displacement).sum(axis=1)
    # L / T steps by z from source to target: rate = D / h^2 * z / (e^z - 1)
    energy = (points**2).sum(axis=1) / 0.5
    z = energy[jumps.target] - energy[jumps.source]
    np.testing.assert_allclose(jumps.rate, 0.5 / h**2 * z / np.expm1(z), rtol=1e-12)
    assert len(jumps.rate) == 2 * (3 + 4)  # both ways through each inner face


# --- a full tensor ------------------------------------------------------------------

tensors = st.builds(
    rotated,
    st.floats(0.02, 1.0),
    st.floats(1.0, 1.9),
    st.floats(-np.pi, np.pi),
)


@settings(max_examples=80, deadline=None)
@given(
    tensor=tensors,
    stretch=st.floats(0.5, 1.0),
    drift=st.tuples(st.floats(-3, 3), st.floats(-3, 3)),
)
def test_hops_have_the_moments_of_the_equation(tensor, stretch, drift):
    # Anisotropy up to 95 on the axes, four times that in units of the cells.
    grid = Grid([-1, -stretch], [1, stretch], 51)
    middle = 51 * 25 + 25
    jumps = tensor_jumps(
        grid,
        np.broadcast_to(tensor, (51, 51, 2, 2)),
        None,
        constantly(np.array(drift)),
    )
    assert jumps.rate.min() >= 0
    here = jumps.source == middle
    rate, hop = jumps.rate[here], jumps.displacement[here]
    cells = hop / grid.spacing
    np.testing.assert_allclose(cells, np.round(cells), atol=1e-12)
    np.testing.assert_allclose(
        grid.points[jumps.target[here]], hop, atol=1e-14
    )  # the middle is at 0
    # The drift is exact; the second moment has z coth z of the hops on top.
    np.testing.assert_allclose(rate @ hop, drift, atol=1e-10 * rate.max())
    still = tensor_jumps(
        grid, np.broadcast_to(tensor, (51, 51, 2, 2)), None, constantly([0.0, 0.0])
    )
    here = still.source == middle
    rate, hop = still.rate[here], still.displacement[here]
    # Selling's sum of rho v v^T, each direction there and back
    np.testing.assert_allclose(
        np.einsum("k,ki,kj->ij", rate, hop, hop) / 2, tensor, rtol=0, atol=1e-12
    )
    directions = np.round(hop / grid.spacing)[rate > 1e-9 * rate.max()]
    assert len(directions) in (4, 6)
    for u, v in combinations(directions, 2):
        assert abs(u[0] * v[1] - u[1] * v[0]) in (0, 1)


@settings(max_examples=30, deadline=None)
@given(
    diagonal=st.tuples(st.floats(0.1, 1.0), st.floats(0.1, 1.0)),
    drift=st.tuples(st.floats(-9, 9), st.floats(-9, 9)),
)
def test_a_diagonal_tensor_hops_along_the_axes(diagonal, drift):
    # For constant coefficients both schemes have the exact flux: the same matrix.
    grid = Grid([0, 0], [1, 2], [4, 5])
    field = constantly(np.array(drift))
    tensor = matrix(
        tensor_jumps(
            grid, np.broadcast_to(np.diag(diagonal), (4, 5, 2, 2)), None, field
        ),
        20,
    )
    known = field(grid.points).reshape(4, 5, 2)
    along = [
        face_rates(grid, axis, (diagonal[axis],) * 3, known, None, field)
        for axis in (0, 1)
    ]
    # z goes through the inverse of the tensor and comes back: a few more roundings
    np.testing.assert_allclose(
        tensor, matrix(axis_jumps(grid, along), 20), rtol=1e-11, atol=1e-12
    )


def test_a_potential_gives_a_tensor_its_drift_to_second_order():
    tensor = np.array([[0.5, 0.2], [0.2, 0.3]])
    gaps = []
    for n in (9, 27, 81):
        grid = Grid([-1, -1.5], [1, 1.5], n)
        jumps = tensor_jumps(
            grid,
            np.broadcast_to(tensor, (n, n, 2, 2)),
            lambda w: np.sin(w[:, 0]) * np.exp(w[:, 1]),
            None,
        )
        change = np.zeros((n * n, 2))
        np.add.at(change, jumps.source, jumps.rate[:, None] * jumps.displacement)
        x, y = grid.points.T
        expected = -np.stack([np.cos(x), np.sin(x)], axis=1) * np.exp(y)[:, None]
        # The centre of 9 x 9 cells, the same places on each grid, off the walls
        place = slice(n // 18 + 2 * n // 9, -2 * n // 9, n // 9)
        gaps.append(np.abs(change - expected).reshape(n, n, 2)[place, place].max())
    slope = np.polyfit(np.log([9, 27, 81]), np.log(gaps), 1)[0]
    assert slope == pytest.approx(-2, abs=0.05)  # the next order is h^2 < 0.1


@pytest.mark.parametrize("smaller", [0.0, 0.0099])
def test_a_small_eigenvalue_is_raised_with_a_warning(smaller):
    grid = Grid([-1, -1], [1, 1], 51)
    field = np.broadcast_to(rotated(smaller, 1.0, 0.6), (51, 51, 2, 2)).copy()
    field[:, :13] = np.eye(2)
    with pytest.warns(
        UserWarning, match="more than a factor 100 in 75% of the cells; the smaller"
    ):
        jumps = tensor_jumps(grid, field, None, constantly([0.0, 0.0]))
    for cell, expected in (
        (51 * 25 + 25, rotated(0.01, 1.0, 0.6)),
        (51 * 25 + 5, np.eye(2)),
    ):
        here = jumps.source == cell
        hop = jumps.displacement[here]
        second = np.einsum("k,ki,kj->ij", jumps.rate[here], hop, hop) / 2
        np.testing.assert_allclose(second, expected, atol=1e-12)


def test_an_anisotropy_of_a_hundred_is_resolved():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tensor_jumps(
            Grid([-1, -1], [1, 1], 11),
            np.broadcast_to(rotated(0.01, 1.0, 0.6), (11, 11, 2, 2)),
            None,
            constantly([0.0, 0.0]),
        )


def test_where_a_tensor_vanishes_only_the_drift_is_left():
    grid = Grid([-1, -1], [1, 1], 11)
    field = np.zeros((11, 11, 2, 2))
    field[0, 0] = np.eye(2)
    with pytest.warns(UserWarning, match="in 99% of the cells"):
        jumps = tensor_jumps(grid, field, None, constantly([0.7, -0.2]))
    here = jumps.source == 11 * 5 + 5
    # Diffusion raised to 1e-12 of the largest, divided by h^2 = 1 / 30
    np.testing.assert_allclose(
        jumps.rate[here] @ jumps.displacement[here], [0.7, -0.2], atol=1e-9
    )


def test_no_hop_leaves_the_box():
    grid = Grid([-1, -1], [1, 1], [6, 5])
    jumps = tensor_jumps(
        grid,
        np.broadcast_to(rotated(0.02, 1.0, 0.5), (6, 5, 2, 2)),
        None,
        constantly([1.0, 1.0]),
    )
    assert np.abs(jumps.displacement).max() > 1.5 * max(grid.spacing)  # long hops
    np.testing.assert_allclose(
        grid.points[jumps.target] - grid.points[jumps.source],
        jumps.displacement,
        atol=1e-14,
    )
