"""Beta and gamma as exact power series in the renormalised coupling."""

from fractions import Fraction
from typing import Any

from benchmarks.harness import Case, Peer, Run
from fpbook.exact_series import Series, moment_series

Pair = tuple[Series, Series]

PRIME = 2**61 - 1
"""Coefficients are checked modulo it: none of their denominators has this factor."""


def _moment_series(order: int) -> Run:
    return lambda: moment_series(order)


def _moments(order: int) -> tuple[Series, Series]:
    """Coefficients of the second and the fourth moment, by their recursion."""
    rows: list[Series] = [[Fraction(1)] + [Fraction(0)] * order]
    rows += [[] for _ in range(order + 2)]
    for j in range(order + 1):
        for row in range(1, order + 3 - j):
            n = 2 * row
            gained = n * (n - 1) * rows[row - 1][j]
            lost = n * rows[row + 1][j - 1] if j else Fraction(0)
            rows[row].append((gained - lost) / (row + 2 * j))
    return rows[1], rows[2][: order + 1]


# --- plain fractions ----------------------------------------------------------------


def _product(a: Series, b: Series) -> Series:
    return [
        sum((a[i] * b[j - i] for i in range(j + 1)), Fraction(0)) for j in range(len(a))
    ]


def _quotient(a: Series, b: Series) -> Series:
    result: Series = []
    for j in range(len(a)):
        known = sum((result[i] * b[j - i] for i in range(j)), Fraction(0))
        result.append((a[j] - known) / b[0])
    return result


def _composed(outer: Series, inner: Series) -> Series:
    result = [Fraction(0)] * len(outer)
    for coefficient in reversed(outer):
        result = _product(result, inner)
        result[0] += coefficient
    return result


def _inverse(series: Series) -> Series:
    size = len(series)
    one = [Fraction(1)] + [Fraction(0)] * (size - 1)
    reciprocal = _quotient(one, [*series[1:], Fraction(0)])
    result, power = [Fraction(0)], reciprocal
    for n in range(1, size):
        result.append(power[n - 1] / n)
        power = _product(power, reciprocal)
    return result


def _plain_series(order: int) -> Run:
    """Invert the series of the coupling, and insert the inverse into both others."""

    def run() -> Pair:
        second, fourth = _moments(order)
        ratio = _quotient(fourth, _product(second, second))
        coupling = [3 - ratio[0]] + [-c for c in ratio[1:]]
        beta = [2 * j * c for j, c in enumerate(coupling)]
        gamma = _quotient([j * c for j, c in enumerate(second)], second)
        gamma[0] += Fraction(1, 2)
        inverse = _inverse(coupling)
        return _composed(beta, inverse), _composed(gamma, inverse)

    return run


# --- python-flint -------------------------------------------------------------------


def _flint_series(order: int) -> Run:
    """Let the series of the library do all but the recursion of the moments."""
    import flint

    def series_of(coefficients: list[Any]) -> Any:
        return flint.fmpq_series(coefficients, prec=order + 1)

    def scaled(series: Any) -> Any:
        """Derivative times the variable; the library would lose a coefficient."""
        return series_of([j * series[j] for j in range(order + 1)])

    def run() -> Pair:
        flint.ctx.cap = order + 1
        second, fourth = (
            series_of([flint.fmpq(c.numerator, c.denominator) for c in moment])
            for moment in _moments(order)
        )
        coupling = 3 - fourth / (second * second)
        gamma = scaled(second) / second + flint.fmpq(1, 2)
        inverse = coupling.reversion()
        beta = 2 * scaled(coupling)
        return _fractions(beta(inverse), order), _fractions(gamma(inverse), order)

    return run


def _fractions(series: Any, order: int) -> Series:
    return [Fraction(int(series[j].p), int(series[j].q)) for j in range(order + 1)]


# --- error --------------------------------------------------------------------------


def _wrong_coefficients(found: Pair, order: int) -> float:
    """Put the coupling's series into beta and gamma, and count what does not agree."""
    second, fourth = (_residues(moment) for moment in _moments(order))
    square = _residue_product(second, second)
    ratio = _residue_product(fourth, _residue_reciprocal(square))
    coupling = [(3 * (j == 0) - c) % PRIME for j, c in enumerate(ratio)]
    run = [2 * j * c % PRIME for j, c in enumerate(coupling)]
    slope = [j * c % PRIME for j, c in enumerate(second)]
    stretch = _residue_product(slope, _residue_reciprocal(second))
    stretch[0] += pow(2, -1, PRIME)
    wrong = 0
    for series, expected in zip(found, (run, stretch), strict=True):
        total = [0] * (order + 1)
        for coefficient in reversed(_residues(series)):
            total = _residue_product(total, coupling)
            total[0] += coefficient
        wrong += sum((a - b) % PRIME != 0 for a, b in zip(total, expected, strict=True))
    return float(wrong)


def _residues(series: Series) -> list[int]:
    return [c.numerator * pow(c.denominator, -1, PRIME) % PRIME for c in series]


def _residue_product(a: list[int], b: list[int]) -> list[int]:
    return [sum(a[i] * b[j - i] for i in range(j + 1)) % PRIME for j in range(len(a))]


def _residue_reciprocal(a: list[int]) -> list[int]:
    first = pow(a[0], -1, PRIME)
    result = [first]
    for j in range(1, len(a)):
        known = sum(result[i] * a[j - i] for i in range(j))
        result.append(-known * first % PRIME)
    return result


CASES = (
    Case(
        name="exact series",
        module="exact_series",
        kernel="moment_series",
        measures="Beta and gamma of the quartic loss as fractions, order by order.",
        size_name="orders",
        sizes=(8, 16, 24, 32, 48),
        setup=_moment_series,
        exact="beta and gamma of the coupling's series, modulo a prime",
        error_name="wrong coefficients",
        error=_wrong_coefficients,
        tolerance=0.0,
        reference=Peer("fractions, inverse and Horner", _plain_series),
        peers=(Peer("python-flint", _flint_series, "python-flint"),),
    ),
)
