r"""Beta and gamma functions of the quartic loss as exact power series.

Series are lists of ``fractions.Fraction``, the coefficients of the powers 0, 1,
2, ... of the renormalised coupling. They are asymptotic: they do not converge, and are
best cut at their smallest term.

Source: derived in the chapter *Training under a microscope: Callan-Symanzik*.
"""

import math
from fractions import Fraction

from fpbook.validation import require_integer_between

Series = list[Fraction]

HIGHEST_ORDER = 80
"""Takes about two seconds, and the time grows as the fourth power."""


def moment_series(order: int) -> tuple[Series, Series]:
    r"""Power series of beta and gamma for the quartic loss, exact.

    For :math:`L = g W^4 / 4` the moments are :math:`\langle W^n \rangle = (T t)^{n/2}
    \sum_j a_{n,j}\, \hat g^j` with :math:`\hat g = g T t^2`, and
    :math:`d \langle W^n \rangle / dt = -n g \langle W^{n+2} \rangle + n (n-1) T
    \langle W^{n-2} \rangle` is the recursion

    .. math:: \bigl( \tfrac n2 + 2j \bigr)\, a_{n,j} = n (n-1)\, a_{n-2,j}
        - n\, a_{n+2,j-1}, \qquad a_{0,j} = \delta_{j0} .

    From :math:`g_R = 3 - a_4 / a_2^2`, :math:`\beta = 2 \hat g\, g_R'(\hat g)` and
    :math:`\gamma = \frac12 + \hat g\, a_2' / a_2`, the series :math:`g_R(\hat g)` is
    inverted. The result is asymptotic: it does not converge. Source: derived in the
    chapter *Training under a microscope: Callan-Symanzik*.

    Parameters
    ----------
    order
        Highest power of :math:`g_R`, from 1 to 80.

    Returns
    -------
    beta, gamma
        Coefficients of :math:`g_R^0` to :math:`g_R^{order}`, as fractions.

    Raises
    ------
    ValueError
        If the order is not an integer from 1 to 80.

    Examples
    --------
    >>> beta, gamma = moment_series(3)
    >>> print(*beta, "and", *gamma)
    0 2 -8/3 424/315 and 1/2 -1/3 -7/45 -7/135
    """
    require_integer_between(1, HIGHEST_ORDER, order=order)
    rows: dict[int, Series] = {
        0: [Fraction(1)] + [Fraction(0)] * (order + 2),
    }
    # a_{n,j} needs a_{n+2,j-1}: fill in column by column, n falling by 2 each time.
    top = 2 * order + 4
    for n in range(2, top + 1, 2):
        rows[n] = []
    for j in range(order + 1):
        for n in range(2, top + 1 - 2 * j, 2):
            gained = n * (n - 1) * rows[n - 2][j]
            lost = n * rows[n + 2][j - 1] if j else Fraction(0)
            rows[n].append((gained - lost) / (Fraction(n, 2) + 2 * j))
    second, fourth = rows[2][: order + 1], rows[4][: order + 1]
    ratio = _quotient(fourth, _product(second, second))
    coupling = [3 - ratio[0]] + [-c for c in ratio[1:]]
    beta = [2 * j * c for j, c in enumerate(coupling)]
    gamma = _quotient([j * c for j, c in enumerate(second)], second)
    gamma[0] += Fraction(1, 2)
    in_coupling = _in_powers_of(coupling, beta, gamma)
    return in_coupling[0], in_coupling[1]


def static_series(order: int) -> Series:
    r"""Power series of beta for the stationary density of the quartic loss, exact.

    .. math:: \beta(G) = \frac{dG}{d \log \mu} = -4 G + 6 G^2 - 12 G^3 + 39 G^4 + \ldots

    for :math:`p \sim e^{-(a W^2/2 + g W^4/4)/T}` at fixed g and T, with :math:`\mu^2 =
    T / \langle W^2 \rangle` and :math:`G = 3 - \langle W^4 \rangle / \langle W^2
    \rangle^2`. With :math:`x = g T / a^2` and Gaussian moments, :math:`\beta = -4 x G'
    / (1 + 2 x m_2' / m_2)` where :math:`\langle W^2 \rangle = m_2(x)\, T / a`. Source:
    derived in the chapter *Training under a microscope: Callan-Symanzik*.

    Parameters
    ----------
    order
        Highest power of G, from 1 to 80.

    Returns
    -------
    beta
        Coefficients of :math:`G^0` to :math:`G^{order}`, as fractions.

    Raises
    ------
    ValueError
        If the order is not an integer from 1 to 80.

    Examples
    --------
    >>> print(*static_series(4))
    0 -4 6 -12 39
    """
    require_integer_between(1, HIGHEST_ORDER, order=order)

    def gaussian(power: int) -> Series:
        return [
            Fraction((-1) ** j * math.prod(range(1, power + 4 * j, 2)))
            / (4**j * math.factorial(j))
            for j in range(order + 1)
        ]

    norm = gaussian(0)
    second, fourth = (_quotient(gaussian(n), norm) for n in (2, 4))
    ratio = _quotient(fourth, _product(second, second))
    coupling = [3 - ratio[0]] + [-c for c in ratio[1:]]
    slope = _quotient([2 * j * c for j, c in enumerate(second)], second)
    slope[0] += 1
    beta = _quotient([-4 * j * c for j, c in enumerate(coupling)], slope)
    return _in_powers_of(coupling, beta)[0]


def _product(a: Series, b: Series) -> Series:
    # Fractions would be reduced at every addition, integers once for a coefficient.
    (p, below_p), (q, below_q) = _integers(a), _integers(b)
    return [
        Fraction(sum(p[i] * q[j - i] for i in range(j + 1)), below_p * below_q)
        for j in range(len(a))
    ]


def _integers(series: Series) -> tuple[list[int], int]:
    """Numerators over a common denominator, and the denominator."""
    below = math.lcm(*(c.denominator for c in series))
    return [c.numerator * (below // c.denominator) for c in series], below


def _quotient(a: Series, b: Series) -> Series:
    result: Series = []
    for j in range(len(a)):
        known = sum((result[i] * b[j - i] for i in range(j)), Fraction(0))
        result.append((a[j] - known) / b[0])
    return result


def _in_powers_of(series: Series, *functions: Series) -> list[Series]:
    """Turn functions of x into series in y(x), by the formula of Lagrange and Buermann.

    With y = x s(x), the coefficient of y^n is that of x^(n-1) in h'(x) s^-n, over n.
    """
    size = len(series)
    one = [Fraction(1)] + [Fraction(0)] * (size - 1)
    reciprocal = _quotient(one, [*series[1:], Fraction(0)])
    found, power = [[h[0]] for h in functions], one
    for n in range(1, size):
        power = _product(power, reciprocal)
        for h, coefficients in zip(functions, found, strict=True):
            total = sum(j * h[j] * power[n - j] for j in range(1, n + 1))
            coefficients.append(Fraction(total, n))
    return found
