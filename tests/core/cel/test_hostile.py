"""Expressions that try to take time, memory or stack: each has a definite outcome.

How long they take is measured by `hack/bench/run --suite cel`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import pytest

from driver.core import cel
from driver.model.slices import Device, DeviceAttribute, DeviceCapacity

DEVICE: Final = Device(
    name="x",
    attributes={"s": DeviceAttribute(string="a" * 64), "n": DeviceAttribute(int_=3)},
    capacity={"m": DeviceCapacity(value="1Gi")},
)
VIEW: Final = cel.view("d", DEVICE)
TEN: Final = "[0,1,2,3,4,5,6,7,8,9]"


def growing(start: str, step: Callable[[str], str], result: str, count: int) -> str:
    """Bind v0 to a start, v1 to a step from v0, and so on."""
    binds = "".join(f"cel.bind(v{i + 1}, {step(f'v{i}')}, " for i in range(count))
    return f"cel.bind(v0, {start}, {binds}{result.replace('$', f'v{count}')}" + ")" * (count + 1)


def nested(count: int) -> str:
    return "".join(f"{TEN}.all(v{i}, " for i in range(count)) + "true" + ")" * count


TOO_DEEP: Final = "expression recursion limit exceeded|max recursion depth exceeded"
COMPILE_ERRORS: Final[Mapping[str, tuple[str, str]]] = {
    "10,000 parentheses": ("(" * 10_000 + "true" + ")" * 10_000, TOO_DEEP),
    "250 parentheses": ("(" * 250 + "true" + ")" * 250, TOO_DEEP),
    "parentheses that never close": ("(" * 5000, TOO_DEEP),
    "nested lists": ("[" * 3000 + "]" * 3000, TOO_DEEP),
    "nested maps": ("{1:" * 2000 + "1" + "}" * 2000, TOO_DEEP),
    "ternaries": ("true ? true : " * 7000 + "true", TOO_DEEP),
    "nested macros": ("[1].all(x, " * 900 + "true" + ")" * 900, TOO_DEEP),
    "selections": ("device" + ".a" * 5000, TOO_DEEP),
    "indexes": ("device" + "[0]" * 3000, TOO_DEEP),
    "calls": ("size(" * 1700 + ")" * 1700, TOO_DEEP),
    "sums": ("1" + "+1" * 5000 + " > 0", TOO_DEEP),
    "100,000 characters": ("true || " * 20_000 + "true", "code point size exceeds limit"),
    "optMap of optMap": ("optional.of(1)" + ".optMap(x, x)" * 120 + ".hasValue()", "too large once its macros"),
    "a repeated repetition": ("device.driver.matches('((a{100}){100}){100}')", "invalid matches argument"),
    "digits": ("9" * 10_000 + " > 0", "invalid int literal"),
    "hexadecimal digits": ("0x" + "f" * 9000 + " > 0", "invalid int literal"),
    "digits of a double": ("1" + "0" * 9000 + ".0 > 0.0", "invalid double literal"),
    "digits in a text": ("int('" + "9" * 9000 + "') > 0", "type conversion error"),
    "digits of a duration": ("duration('" + "9" * 9000 + "h') > duration('1s')", "invalid duration argument"),
    "a precision": ("'%.999999999f'.format([1.0]) == ''", "precision"),
    "question marks": ("?" * 9000, r"unexpected '\?'"),
    "quotes": ("'" * 9001, "not closed"),
    "types in types": (growing("{1: 1}", lambda v: f"{{{v}: {v}}}", "$ == {1: 1}", 60), "no matching overload|complex"),
}
RESULTS: Final[Mapping[str, tuple[str, bool]]] = {
    "249 parentheses": ("(" * 249 + "true" + ")" * 249, True),
    "5,000 negations": ("!" * 5000 + "true", True),
    "1,600 alternatives": (" || ".join(["false"] * 1600), False),
    "10 KiB of alternatives": (" || ".join(f'device.attributes["d"].s == "m{i}"' for i in range(270)), False),
    "10 KiB of conditions": (" && ".join(["true"] * 1200), True),
    "249 ternaries": ("false ? false : " * 249 + "true", True),
    "nested macros that are few": ("[1].all(x, " * 60 + "true" + ")" * 60, True),
    "an exponential regular expression": ('device.attributes["d"].s.matches("(a+)+$")', True),
    "an exponential regular expression that fails": ('device.attributes["d"].s.matches("(a|a)*b")', False),
    "a deep regular expression": ('device.attributes["d"].s.matches("' + "(x+x+)+" * 500 + 'y")', False),
    "a list of 4,000": ("[" + ",".join(["1"] * 4000) + "].size() == 4000", True),
    "3,000 empty lists": ("[" + ",".join(["[]"] * 3000) + "].size() == 3000", True),
    "a map in a map in a map": (growing("{1: 1}", lambda v: f"{{{v}: {v}}}", "$.size() == 1", 60), True),
    "a comment of 10 KiB": ("//" * 5000 + "\ntrue", True),
    "nested optMap": ("optional.of(1).optMap(x, " * 60 + "1" + ")" * 60 + ".hasValue()", True),
    "a URL of escapes": ("isURL('http://" + "%41" * 3000 + "')", False),
    "a long subdomain": ("format.dns1123Subdomain().validate('" + "a." * 4000 + "').hasValue()", True),
    "a huge sum of quantities": ("quantity('1e900').add(quantity('1e900')) == quantity('2e900')", True),
}
CANCELLED: Final = "actual cost limit exceeded"
EVALUATION_ERRORS: Final[Mapping[str, tuple[str, str]]] = {
    "nested loops": (nested(8), CANCELLED),
    "a range of a million": ("lists.range(1000000).size() > 0", CANCELLED),
    "a range of all numbers": ("lists.range(9223372036854775807).size() > 0", CANCELLED),
    "a range in a range": ("lists.range(1000).all(i, lists.range(1000).all(j, i + j >= 0))", CANCELLED),
    "texts that double": (growing("'aaaa'", lambda v: f"{v} + {v}", "$.size() > 0", 60), CANCELLED),
    "lists that double": (growing("[1]", lambda v: f"{v} + {v}", "$.size() > 0", 60), CANCELLED),
    "replace": (f"'{'a' * 2000}'.replace('', '{'b' * 2000}').replace('', '{'c' * 2000}').size() > 0", CANCELLED),
    "replace by itself": (growing(f"'{'a' * 99}'", lambda v: f"{v}.replace('', {v})", "$.size() > 0", 8), CANCELLED),
    "format": (growing("'aaaa'", lambda v: f"'%s%s'.format([{v}, {v}])", "$.size() > 0", 60), CANCELLED),
    "join": (growing("'aaaa'", lambda v: f"[{v}, {v}].join({v})", "$.size() > 0", 60), CANCELLED),
    "split, map, join": (f"'{'a' * 5000}'.split('').map(x, '{'b' * 3000}').join('').size() > 0", CANCELLED),
    "lists of lists that are equal": (growing("[1]", lambda v: f"[{v}, {v}]", "$ == $", 40), CANCELLED),
    "lists of lists as text": (
        growing("[dyn(1)]", lambda v: f"[dyn({v}), dyn({v})]", "'%s'.format([$]).size() > 0", 30),
        CANCELLED,
    ),
    "lists of lists, flat": (
        growing("[dyn(1)]", lambda v: f"[dyn({v}), dyn({v})]", "$.flatten(50).size() > 0", 40),
        CANCELLED,
    ),
    "lists of lists, searched": (growing("[1]", lambda v: f"[{v}, {v}]", "$.indexOf([]) == 0", 40), CANCELLED),
    "distinct": ("lists.range(5000).distinct().size() > 0", CANCELLED),
    "digits of a quantity": ("quantity('" + "9" * 9000 + "') == quantity('1')", "more than 2000 characters"),
    "the exponent of a quantity": ("quantity('1e999999999') == quantity('1')", "quantities must match"),
    "digits of a version": ("semver('1." + "9" * 9000 + ".0') == semver('1.0.0')", "is too large"),
    "an address": ("ip('" + ":" * 5000 + "').family() == 4", "parse error"),
    "a path as time zone": ("timestamp(0).getHours('../../../etc/passwd') == 0", "unknown time zone"),
    "a long time zone": ("timestamp(0).getHours('" + "a/" * 4000 + "') == 0", "unknown time zone"),
}


@pytest.mark.parametrize(("expression", "reason"), COMPILE_ERRORS.values(), ids=COMPILE_ERRORS)
def test_what_is_refused_at_once(expression: str, reason: str) -> None:
    with pytest.raises(cel.CompileError, match=reason):
        cel.compile_selector(expression)
    assert cel.admission_error(expression) is not None


@pytest.mark.parametrize(("expression", "expected"), RESULTS.values(), ids=RESULTS)
def test_what_is_large_and_fine(expression: str, expected: bool) -> None:
    assert cel.matches(cel.compile_selector(expression), VIEW) is expected


@pytest.mark.parametrize(("expression", "reason"), EVALUATION_ERRORS.values(), ids=EVALUATION_ERRORS)
def test_what_is_stopped_while_it_runs(expression: str, reason: str) -> None:
    selector = cel.compile_selector(expression)
    with pytest.raises(cel.EvaluationError, match=reason):
        cel.matches(selector, VIEW)


def test_no_operator_absorbs_the_cost_limit() -> None:
    costly = "lists.range(1000000).size() > 0"
    for expression in (f"{costly} || true", f"[1, 2].exists(x, {costly})", f"({costly}) != true"):
        with pytest.raises(cel.EvaluationError, match=CANCELLED):
            cel.matches(cel.compile_selector(expression), VIEW)


def test_admission_refuses_what_is_long_or_could_cost_too_much() -> None:
    long = "true || " * 1400 + "true"
    assert len(long) > 10 * 1024
    assert cel.admission_error(long) == "Too long: may not be more than 10240 bytes"
    assert cel.matches(cel.compile_selector(long), VIEW) is True
    costly = cel.admission_error(nested(8))
    assert costly is not None
    assert costly.startswith("too complex, exceeds cost limit")
    assert cel.admission_error("device.driver == 'd'") is None
