"""Claims: what passes, what fails, and that a failing claim is shown and raised."""

import html
import json
from typing import Any

import IPython
import IPython.display
import numpy as np
import pytest
from bs4 import BeautifulSoup
from hypothesis import given
from hypothesis import strategies as st

from fpbook import claims
from fpbook.claims import FalseClaimError, NotYetError, Row


def check(**given: Any) -> None:
    claims.check(**{"statement": "a claim", "source": "equation (1)"} | given)


def page_of(row: Row) -> BeautifulSoup:
    return BeautifulSoup(row._repr_mimebundle_()["text/html"], "html.parser")


# --- what is accepted ---------------------------------------------------------------

HOLDING: dict[str, dict[str, Any]] = {
    "atol": {"measured": 1.04, "expected": 1.0, "atol": 0.05},
    "atol reached exactly": {"measured": 1.5, "expected": 1.0, "atol": 0.5},
    "exact": {"measured": 3, "expected": 3, "atol": 0},
    "rtol": {"measured": -104, "expected": -100, "rtol": 0.05},
    "rtol of zero": {"measured": 0.0, "expected": 0.0, "rtol": 0.05},
    "interval": {"measured": 0.3, "interval": (0.2, 0.4)},
    "closed interval": {"measured": [0.2, 0.4], "interval": (0.2, 0.4)},
    "half-open interval": {"measured": 7.0, "interval": (1.0, np.inf)},
    "array and scalar": {"measured": [0.9, 1.1], "expected": 1, "atol": 0.2},
    "array and array": {"measured": [1, 20], "expected": [1.1, 21], "rtol": 0.1},
    "array in interval": {"measured": np.eye(2), "interval": (-1, 2)},
    "answers": {"measured": [np.True_, False], "expected": [True, False], "atol": 0},
}
FAILING: dict[str, dict[str, Any]] = {
    "atol": {"measured": 1.06, "expected": 1.0, "atol": 0.05},
    "lost sign": {"measured": -1.0, "expected": 1.0, "rtol": 0.5},
    "rtol": {"measured": -106, "expected": -100, "rtol": 0.05},
    "rtol of zero": {"measured": 1e-9, "expected": 0.0, "rtol": 0.5},
    "below interval": {"measured": 0.1, "interval": (0.2, 0.4)},
    "above interval": {"measured": 0.5, "interval": (0.2, 0.4)},
    "one element": {"measured": [1.0, 1.0, 1.3], "expected": 1, "atol": 0.2},
    "one answer": {"measured": [True, False], "expected": [True, True], "atol": 0},
    "one element, rtol": {"measured": [1, 2], "expected": [1, 3], "rtol": 0.1},
    "one element, interval": {"measured": [0.3, 0.5], "interval": (0.2, 0.4)},
    "nan": {"measured": np.nan, "expected": 1.0, "atol": 0.1},
    "nan, rtol": {"measured": [1.0, np.nan], "expected": 1.0, "rtol": 0.1},
    "nan, interval": {"measured": np.nan, "interval": (0, 1)},
    "infinity": {"measured": np.inf, "expected": 1.0, "atol": 0.1},
    "infinity, interval": {"measured": np.inf, "interval": (0, np.inf)},
    "nan expected": {"measured": 1.0, "expected": np.nan, "atol": 0.1},
    "infinity expected": {"measured": 1.0, "expected": np.inf, "rtol": 0.1},
}


@pytest.mark.parametrize("claim", HOLDING.values(), ids=HOLDING)
def test_holds(claim: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    check(**claim)
    assert capsys.readouterr().out.startswith("HOLDS: a claim | predicted ")


@pytest.mark.parametrize("claim", FAILING.values(), ids=FAILING)
def test_fails_after_it_was_shown(
    claim: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(FalseClaimError, match=r"^FAILS: a claim ") as problem:
        check(**claim)
    assert capsys.readouterr().out == f"{problem.value}\n"


def test_a_false_claim_is_an_assertion_error() -> None:
    assert issubclass(FalseClaimError, AssertionError)


# --- self-checks of exercises -------------------------------------------------------

OPEN: dict[str, dict[str, Any]] = {
    "measured": {"measured": ..., "expected": 1.0, "atol": 0.1},
    "expected": {"measured": 1.0, "expected": ..., "rtol": 0.1},
    "one of a list": {"measured": [1.0, 2.0], "expected": [1.0, ...], "atol": 0.1},
    "nested": {"measured": [[1.0, ...], [2.0, 3.0]], "expected": 0, "atol": 0.1},
    "array": {"measured": np.repeat([..., ...], 3), "expected": 1, "atol": 0.1},
    "interval": {"measured": ..., "interval": (0.1, np.inf)},
    # What a function without return gives.
    "nothing": {"measured": 1.0, "expected": None, "rtol": 0.1},
    "nothing in a list": {"measured": [1.0], "expected": [None], "rtol": 0.1},
}


@pytest.mark.parametrize("claim", OPEN.values(), ids=OPEN)
def test_an_open_answer_is_asked_for(
    claim: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(NotYetError, match=r"^No answer yet: a claim\nWrite it") as told:
        check(**claim, hint="look at the sign")
    # Who has not tried gets no hint.
    assert "look at the sign" not in str(told.value)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("claim", OPEN.values(), ids=OPEN)
def test_dots_are_no_number_where_nobody_is_asked(claim: dict[str, Any]) -> None:
    with pytest.raises((ValueError, FalseClaimError)) as told:
        check(**claim)
    assert told.type is not NotYetError


@pytest.mark.parametrize(
    ("tolerance", "told"),
    [
        ({"expected": 1, "atol": 0}, "accepted is the exact answer"),
        ({"expected": 1, "atol": 0.05}, "accepted is a deviation of up to 0.05"),
        ({"expected": 1, "rtol": 0.1}, "accepted is a relative deviation of up to 0.1"),
        ({"interval": (0.5, 2)}, "accepted are numbers from 0.5 to 2"),
    ],
)
@pytest.mark.parametrize("answer", [..., 7.0])
def test_the_tolerance_of_a_self_check_is_shown(
    tolerance: dict[str, Any], told: str, answer: Any
) -> None:
    with pytest.raises(NotYetError, match=rf"{told}\."):
        check(measured=answer, **tolerance, hint="look")


@pytest.mark.parametrize("claim", FAILING.values(), ids=FAILING)
def test_a_wrong_answer_gets_the_hint_and_no_number(
    claim: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(
        NotYetError, match=r"^Not yet: a claim\nNot accepted"
    ) as problem:
        check(**claim, hint="look")
    assert str(problem.value).endswith("\nHint: look")
    # The row would say the answer, and so would the deviation from it.
    assert "predicted" not in str(problem.value)
    assert "off by" not in str(problem.value)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("measured", "told"),
    [
        ([1, 2, 3], "Not accepted: number 2, number 3 of 3"),
        ([1, 1, 3], "Not accepted: number 3 of 3"),
        ([2], "Not accepted; "),
        (np.arange(20), "Not accepted: 19 of 20 numbers"),
    ],
)
def test_several_answers_are_told_apart(measured: Any, told: str) -> None:
    with pytest.raises(NotYetError, match=told):
        check(measured=measured, expected=1, atol=0.5, hint="look")


def test_an_answer_of_another_shape_is_told_as_one() -> None:
    with pytest.raises(NotYetError, match=r"shapes \(3,\) and \(2,\) cannot be"):
        check(measured=[1, 2, 3], expected=[1, 2], atol=1, hint="look")


def test_an_answer_in_words_is_told_as_one() -> None:
    with pytest.raises(NotYetError, match="made of real numbers, this is 'smaller'"):
        check(measured=1, expected="smaller", atol=1, hint="look")


@pytest.mark.parametrize("claim", HOLDING.values(), ids=HOLDING)
def test_a_right_answer_is_a_claim_like_others(
    claim: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    check(**claim)
    without = capsys.readouterr().out
    check(**claim, hint="look")
    assert capsys.readouterr().out == without


def test_a_notebook_shows_the_message_of_a_self_check_alone() -> None:
    assert NotYetError("a\nb")._render_traceback_() == ["a\nb"]
    assert issubclass(NotYetError, FalseClaimError)


# Large enough for every number of a page; beyond 1e308 a difference overflows.
numbers = st.floats(-1e150, 1e150)


@given(measured=numbers, expected=numbers, atol=st.floats(0, 1e150))
def test_passes_if_and_only_if_within_atol(
    measured: float, expected: float, atol: float
) -> None:
    try:
        check(measured=measured, expected=expected, atol=atol)
        passed = True
    except FalseClaimError:
        passed = False
    assert passed == (abs(measured - expected) <= atol)


@given(st.lists(st.floats(-2, 2), min_size=1, max_size=5))
def test_an_array_passes_if_and_only_if_every_element_does(values: list[float]) -> None:
    try:
        check(measured=values, interval=(-1, 1))
        passed = True
    except FalseClaimError:
        passed = False
    assert passed == all(-1 <= value <= 1 for value in values)


# --- what is shown ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claim", "line"),
    [
        (
            {"measured": 1.04, "expected": 1, "atol": 0.05},
            "predicted 1 | measured 1.04 (off by 4.0e-02, allowed 0.05)",
        ),
        (
            {"measured": [90, 105], "expected": 100, "rtol": 0.2},
            "predicted 100 | measured 90, 105 (off by 1.0e-01 relative, allowed 0.2)",
        ),
        (
            {"measured": 0.3, "interval": (0.2, 0.4)},
            "predicted 0.2 to 0.4 | measured 0.3",
        ),
        (
            {"measured": 0.3, "interval": (0.2, 0.4), "expected": 1 / 3},
            "predicted 0.33333 (0.2 to 0.4) | measured 0.3",
        ),
        (
            {"measured": 2.1, "expected": 2, "atol": 0.5, "error": 0.25},
            "predicted 2 | measured 2.1 (off by 1.0e-01, allowed 0.5) ± 0.25",
        ),
        (
            {"measured": [1, 2], "interval": (0, 3), "error": [0.1, 0.2]},
            "predicted 0 to 3 | measured 1, 2 ± 0.1, 0.2",
        ),
        (
            {"measured": range(1, 8), "interval": (0, 9)},
            "predicted 0 to 9 | measured 1, 2, 3, … 7 (7 numbers)",
        ),
        (
            {"measured": range(1, 7), "interval": (0, 9)},
            "predicted 0 to 9 | measured 1, 2, 3, 4, 5, 6",
        ),
    ],
)
def test_the_row_says_the_numbers(
    claim: dict[str, Any], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    check(**claim)
    assert capsys.readouterr().out == f"HOLDS: a claim | {line} | equation (1)\n"


@pytest.mark.parametrize("expected", [2.0, 3.0], ids=["holds", "fails"])
def test_a_notebook_displays_the_row_before_the_error(
    expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    displayed: list[Row] = []
    monkeypatch.setattr(IPython, "get_ipython", object)
    monkeypatch.setattr(IPython.display, "display", displayed.append)
    try:
        check(measured=2.0, expected=expected, atol=0.1)
    except FalseClaimError:
        assert expected == 3.0
    (row,) = displayed
    assert row.verdict == ("holds" if expected == 2.0 else "fails")
    (shown,) = page_of(row).select(".fpbook-claim")
    assert f"fpbook-claim-{row.verdict}" in shown["class"]


HOSTILE = """<script>alert("1 & 2")</script> it's > </div> 'η' \u2028 --> ]]>"""


def test_texts_are_escaped() -> None:
    row = Row(HOSTILE, "<b>1</b>", '"2" & <i>', "holds", f"source {HOSTILE}")
    markup = row._repr_mimebundle_()["text/html"]
    page = page_of(row)
    assert {tag.name for tag in page.find_all()} == {"div", "span"}
    assert len(page.select("[data-claim]")) == 1
    for part in (row.statement, row.predicted, row.measured, row.source):
        assert html.escape(part) in markup
        assert part in page.get_text()


texts = st.text(min_size=1)


@given(st.builds(Row, texts, texts, texts, st.just("holds"), texts))
def test_the_data_of_a_row_survive_the_page(row: Row) -> None:
    (shown,) = page_of(row).select("[data-claim]")
    assert Row(**json.loads(str(shown["data-claim"]))) == row
    assert shown["id"] == row.anchor


# --- anchors ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "anchor"),
    [
        ("One and one are two", "claim-one-and-one-are-two"),
        ("slope <= 2 (order 1)!", "claim-slope-2-order-1"),
        ("  a -- b  ", "claim-a-b"),
        ("x" * 200, "claim-" + "x" * 80),
        ("x" * 79 + " y", "claim-" + "x" * 79),
    ],
)
def test_anchors_stay_as_they_are(statement: str, anchor: str) -> None:
    assert Row(statement, "1", "1", "holds", "s").anchor == anchor


@given(texts, texts)
def test_an_anchor_depends_on_nothing_but_the_statement(
    statement: str, other: str
) -> None:
    one = Row(statement, "1", "1", "holds", "s")
    two = Row(statement, other, other, "fails", other)
    assert one.anchor == two.anchor
    assert set(one.anchor) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


# --- wrong arguments ----------------------------------------------------------------

GOOD: dict[str, Any] = {"measured": 1.0, "expected": 1.0}
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no tolerance": (GOOD, "exactly one of atol, rtol and interval, got 0"),
    "two tolerances": (GOOD | {"atol": 1, "rtol": 1}, "exactly one .* got 2"),
    "three tolerances": (
        GOOD | {"atol": 1, "rtol": 1, "interval": (0, 1)},
        "exactly one .* got 3",
    ),
    "empty statement": (GOOD | {"atol": 1, "statement": ""}, "statement must not be"),
    "blank statement": (GOOD | {"atol": 1, "statement": " \n"}, "statement must not"),
    "empty source": (GOOD | {"atol": 1, "source": " "}, "source must not be empty"),
    "negative atol": (
        GOOD | {"atol": -0.1},
        r"atol must be finite and >= 0, got -0\.1",
    ),
    "negative rtol": (
        GOOD | {"rtol": -0.1},
        r"rtol must be finite and >= 0, got -0\.1",
    ),
    "nan atol": (GOOD | {"atol": np.nan}, "atol must be finite and >= 0, got nan"),
    "nothing expected": ({"measured": 1, "atol": 1}, "expected must be given"),
    "nothing expected, rtol": ({"measured": 1, "rtol": 1}, "expected must be given"),
    "empty interval": ({"measured": 1, "interval": (2, 1)}, "low < high"),
    "one-point interval": ({"measured": 1, "interval": (1, 1)}, "low < high"),
    "nan interval": ({"measured": 1, "interval": (np.nan, 1)}, "low < high"),
    "other shape": (
        {"measured": [1, 2], "expected": [1, 2, 3], "atol": 1},
        r"shape \(2,\) of measured, got \(3,\)",
    ),
    "more expected": (
        {"measured": 1, "expected": [1, 1], "atol": 1},
        r"shape \(\) of measured, got \(2,\)",
    ),
    "no number": (GOOD | {"measured": [], "atol": 1}, "measured must hold at least"),
    "words": (GOOD | {"measured": "two", "atol": 1}, "measured must be real numbers"),
    "ragged": (GOOD | {"measured": [1, [2, 3]], "atol": 1}, "measured must be real"),
    "complex": (GOOD | {"measured": 1j, "atol": 1}, "measured must be real numbers"),
    "no expected numbers": (
        GOOD | {"expected": {}, "atol": 1},
        "expected must be real numbers",
    ),
    "wrong error": (GOOD | {"atol": 1, "error": "small"}, "error must be real"),
}


@pytest.mark.parametrize(("claim", "message"), WRONG.values(), ids=WRONG)
def test_wrong_arguments_are_told_and_nothing_is_shown(
    claim: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match=message):
        check(**claim)
    assert capsys.readouterr().out == ""
