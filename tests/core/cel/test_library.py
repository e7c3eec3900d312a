"""Every function of the library: what it gives, and which arguments it refuses."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from driver.core import cel
from driver.core.cel import library
from driver.core.cel.errors import CompileError, EvaluationError
from driver.core.cel.values import NONE, Optional, TypeName, Uint
from driver.model import quantities


def _value(expression: str, **variables: object) -> object:
    return cel.compile(expression).evaluate(variables)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("'gpu'.startsWith('g')", True),
        ("'gpu'.endsWith('g')", False),
        ("'gpu'.contains('p')", True),
        ("'größe'.size()", 5),
        ("size('größe')", 5),
        ("'größe'.charAt(2)", "ö"),
        ("'gpu'.charAt(3)", ""),
        ("'banana'.indexOf('an')", 1),
        ("'banana'.indexOf('an', 2)", 3),
        ("'banana'.indexOf('x')", -1),
        ("'banana'.lastIndexOf('an')", 3),
        ("'banana'.lastIndexOf('an', 2)", 1),
        ("'a,b,,c'.split(',')", ["a", "b", "", "c"]),
        ("'a,b,,c'.split(',', 2)", ["a", "b,,c"]),
        ("'a,b'.split(',', 0)", []),
        ("'a,b'.split(',', -1)", ["a", "b"]),
        ("'abc'.split('')", ["a", "b", "c"]),
        ("'abc'.split('', 2)", ["a", "bc"]),
        ("['a', 'b'].join()", "ab"),
        ("['a', 'b'].join(', ')", "a, b"),
        ("'aXbX'.replace('X', '-')", "a-b-"),
        ("'aXbX'.replace('X', '-', 1)", "a-bX"),
        ("'abcd'.substring(1)", "bcd"),
        ("'abcd'.substring(1, 3)", "bc"),
        ("'  a '.trim()", "a"),
        ("'ABÄ'.lowerAscii() + 'abä'.upperAscii()", "abÄABä"),
        ("strings.quote('a\"b\\n')", '"a\\"b\\n"'),
        ("'a1b22'.find('[0-9]+')", "1"),
        ("'ab'.find('[0-9]+')", ""),
        ("'a1b22'.findAll('[0-9]+', 1)", ["1"]),
        ("'a1b22'.findAll('[0-9]+', 0)", []),
        ("matches('abc', 'b')", True),
        ("[2, 1].isSorted() || ![1, 2].isSorted()", False),
        ("[1, 2, 3].sum()", 6),
        ("[1.5, 2.5].sum()", 4.0),
        ("[].sum()", 0),
        ("[3, 1, 2].min() + [3, 1, 2].max()", 4),
        ("['b', 'a'].sort()", ["a", "b"]),
        ("[quantity('2'), quantity('1')].sort()[0] == quantity('1')", True),
        ("[semver('2.0.0'), semver('1.0.0')].min() == semver('1.0.0')", True),
        ("[quantity('1Gi'), quantity('1Gi')].sum() == quantity('2Gi')", True),
        ("[1, 2, 1].indexOf(1) + [1, 2, 1].lastIndexOf(1)", 2),
        ("[1].indexOf(2) + [1].lastIndexOf(2)", -2),
        ("[1, 2, 3].slice(1, 3)", [2, 3]),
        ("[[1], [2, 3]].flatten()", [1, 2, 3]),
        ("[[1, [2]]].flatten()", [1, [2]]),
        ("[[1, [2]]].flatten(2)", [1, 2]),
        ("[1, 1, 2].distinct()", [1, 2]),
        ("[1, 2].reverse()", [2, 1]),
        ("[1, 2].first().value() + [1, 2].last().value()", 3),
        ("[].first().hasValue()", False),
        ("lists.range(3)", [0, 1, 2]),
        ("lists.range(-1)", []),
        ("sets.contains([1, 2], [2]) && !sets.contains([1], [2])", True),
        ("sets.equivalent([1, 1, 2], [2, 1])", True),
        ("sets.intersects([1], [2])", False),
        ("quantity('1.5Gi').asApproximateFloat()", 1610612736.0),
        ("quantity('2k').asInteger()", 2000),
        ("quantity('1500m').isInteger()", False),
        ("sign(quantity('-1')) + sign(quantity('0')) + sign(quantity('5'))", 0),
        ("quantity('1Gi').add(1024) == quantity('1048577Ki')", True),
        ("quantity('2').sub(quantity('1')).sub(1) == quantity('0')", True),
        ("isQuantity('1Gi') && !isQuantity('1GiB')", True),
        ("semver('1.2.3').major() + semver('1.2.3').minor() + semver('1.2.3').patch()", 6),
        ("semver('1.2.3').compareTo(semver('1.10.0'))", -1),
        ("semver('1.0.0+a') == semver('1.0.0+b')", True),
        ("isSemver('1.2') || !isSemver('v1.2', true)", False),
        ("int(3u) + int(2.9) + int('4')", 9),
        ("uint(3) + uint('4') + uint(1.5)", Uint(8)),
        ("double(1) + double('1.5')", 2.5),
        ("bool('true') && !bool('F')", True),
        ("string(b'ab') + string(2u) + string(0.0001) + string(1e-7)", "ab20.00011e-07"),
        ("string(1e20)", "100000000000000000000"),
        ("bytes('ab') == b'ab'", True),
        ("type(null) == null_type && type({}) == map && type([]) == list", True),
        ("type(type(1)) == type", True),
        ("dyn(1) == 1.0", True),
        ("optional.ofNonZeroValue('').hasValue()", False),
        ("optional.unwrap([optional.of(1), optional.none()])", [1]),
        ("optional.none().or(optional.of(1)).value()", 1),
        ("optional.none().optMap(x, x).hasValue()", False),
        ("optional.of(1).optFlatMap(x, optional.none()).hasValue()", False),
    ],
)
def test_functions(expression: str, expected: object) -> None:
    value = _value(expression)
    assert (value, type(value)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("'abc'.substring(2, 1)", "invalid substring range"),
        ("'abc'.charAt(4)", "index out of range: 4"),
        ("'abc'.indexOf('a', 9)", "index out of range: 9"),
        ("[1, 'a'].join()", "join takes strings"),
        ("[].min()", "min called on empty list"),
        ("[].max()", "max called on empty list"),
        ("[1, 'a'].sort()", "no such overload"),
        ("[1, 2].slice(1, 0)", "start index must be less"),
        ("[1, 2].slice(0, 9)", "list is length 2"),
        ("[1, 2].slice(-1, 0)", "negative indexes"),
        ("[1].flatten(-1)", "level must be non-negative"),
        ("lists.range(2000000)", "more than 1000000 elements"),
        ("quantity('1500m').asInteger()", "cannot convert value to integer"),
        ("quantity('9223372036854775807').asInteger()", "cannot convert value to integer"),
        ("int(dyn(1e300))", "integer overflow"),
        ("int(dyn(double('nan')))", "integer overflow"),
        ("uint(dyn(-1))", "unsigned integer overflow"),
        ("uint(dyn('x'))", "type conversion error"),
        ("double(dyn('1,5'))", "type conversion error"),
        ("bool(dyn('yes'))", "type conversion error"),
        ("string(dyn(b'\\xff'))", "invalid UTF-8"),
        ("string([1])", "no such overload"),
        ("optional.of([1]).optMap(x, x).value().nope", "unsupported index type"),
        ("optional.unwrap([optional.of(1)])[3]", "index out of bounds: 3"),
        ("[1].map(x, x).filter(x, 'a')", "no such overload"),
        ("'a'.all(x, true)", "no such overload"),
    ],
)
def test_refusals(expression: str, reason: str) -> None:
    with pytest.raises(EvaluationError, match=reason):
        _value(expression)


@pytest.mark.parametrize(
    "version",
    [
        "",
        "1",
        "1.2",
        "v1.0.0",
        "1.02.3",
        "1.2.3-",
        "1.2.3-a..b",
        "1.2.3-01",
        "1.2.3+",
        "1.2.x",
        "1.2.3-ä",
        "1.2.3+a b",
        f"1.2.{2**64}",
    ],
)
def test_what_is_no_version(version: str) -> None:
    assert _value("isSemver(object)", object=version) is False
    with pytest.raises(EvaluationError):
        _value("semver(object).major() == 1", object=version)


@pytest.mark.parametrize(
    ("text", "normal"),
    [("v1", "1.0.0"), ("01.002.0", "1.2.0"), ("1.2", "1.2.0"), ("0.0", "0.0.0"), ("1.2.3-rc.1", "1.2.3-rc.1")],
)
def test_versions_are_repaired_when_asked(text: str, normal: str) -> None:
    assert _value("semver(object, true) == semver(params)", object=text, params=normal) is True


def test_precedence_of_versions() -> None:
    """The chain of semver.org, section 11."""
    chain = ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11"]
    chain += ["1.0.0-rc.1", "1.0.0", "1.0.1", "1.1.0", "2.0.0"]
    for low, high in pairwise(chain):
        assert _value("semver(object).isLessThan(semver(params))", object=low, params=high) is True
        assert _value("semver(params).isGreaterThan(semver(object))", object=low, params=high) is True


def test_a_number_of_arguments_that_no_overload_takes_does_not_compile() -> None:
    for name, table, method in (("GLOBAL", library.GLOBAL, False), ("METHODS", library.METHODS, True)):
        for function in table:
            with pytest.raises(CompileError, match="no matching overload"):
                library.look_up(function, 9, method=method, position=0)
        assert len(table) > 20, name


def test_very_large_quantities_become_infinite_floats() -> None:
    assert _value("object.asApproximateFloat()", object=quantities.Quantity(10**400)) == math.inf
    assert _value("object.asApproximateFloat()", object=quantities.Quantity(-(10**400))) == -math.inf


def test_values_that_only_pass_through_keep_their_type() -> None:
    assert _value("object", object=NONE) is NONE
    assert _value("type(object)", object=Optional(True, 1)) == TypeName("optional")
    assert _value("object.a == object.a", object={"a": (1, 2)}) is True
