"""Public functions refuse bad values by the name of the argument."""

import inspect

import pytest
from fuzz_calls_a_to_g import CALLS as FIRST
from fuzz_calls_k_to_w import CALLS as SECOND
from fuzzing import GOOD, Call, Input, inputs, outcome, public_functions, run

CALLS = [*FIRST, *SECOND]
INPUTS = [tried for call in CALLS for tried in inputs(call)]


def test_every_public_function_is_called() -> None:
    assert {call.function for call in CALLS} == set(public_functions())


@pytest.mark.parametrize("function", sorted({call.function for call in CALLS}))
def test_every_argument_is_given(function: str) -> None:
    given = {name for call in CALLS if call.function == function for name in call[1]}
    parameters = inspect.signature(public_functions()[function]).parameters.values()
    named = {x.name for x in parameters if x.kind is not inspect.Parameter.VAR_KEYWORD}
    assert named <= given


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.function)
def test_good_values_are_taken(call: Call) -> None:
    run(call)


@pytest.mark.parametrize("tried", INPUTS, ids=str)
def test_bad_values_are_refused_by_name(tried: Input) -> None:
    found = outcome(tried)
    assert found in GOOD, found


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.function)
def test_allowances_are_used(call: Call) -> None:
    offered = {(tried.argument, tried.bad) for tried in inputs(call)}
    listed = {
        (argument, bad)
        for arguments, names in call.allowed
        for argument in arguments.split()
        for bad in names.split()
    }
    assert listed <= offered
