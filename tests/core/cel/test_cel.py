"""The selector language, feature by feature, and its bounds against hostile expressions."""

from __future__ import annotations

import sys

import pytest

from driver.core import cel
from driver.core.cel.values import Uint
from driver.model.published import Attribute, PublishedDevice
from driver.model.slices import Device, DeviceAttribute, DeviceCapacity

DEVICE = Device(
    name="gpu-0",
    attributes={
        "accel-dra.dev/model": DeviceAttribute(string="H100 80GB HBM3"),
        "accel-dra.dev/index": DeviceAttribute(int_=0),
        "accel-dra.dev/driverVersion": DeviceAttribute(version="580.126.9"),
        "local": DeviceAttribute(bool_=True),
    },
    capacity={"accel-dra.dev/memory": DeviceCapacity(value="80Gi")},
)
VIEW = cel.view("gpu.accel-dra.dev", DEVICE)


def _value(expression: str, **variables: object) -> object:
    return cel.compile(expression).evaluate({"device": VIEW, **variables})


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("1 + 2 * 3 - 4 / 2 % 2", 7),
        ("-7 / 2", -3),
        ("-7 % 2", -1),
        ("2 - 1 - 1", 0),
        ("-9223372036854775808", -(2**63)),
        ("0x1F + 1", 32),
        ("7u", Uint(7)),
        (".5 + 1e1", 10.5),
        ("dyn(true) == 1", False),
        ("[dyn(true)] == [dyn(1)]", False),
        ("dyn(1) == 1.0 && dyn(1) == 1u && 1 < 1.5 && 1u < 2", True),
        ("{dyn(true): 'a', dyn(1): 'b'}[dyn(true)]", "a"),
        ("{dyn(true): 'a', dyn(1): 'b'}[dyn(1.0)]", "b"),
        ("{[1]: 2}.size()", 1),
        ("'a' + 'b'", "ab"),
        ('"tab\\t\\x41\\101\\u00fc\\U0001F600"', "tab\tAAü😀"),
        ("r'\\d'", "\\d"),
        ("b'ü\\xff'.size()", 3),
        ("'''a\n'b\"'''", "a\n'b\""),
        ("true ? 1 : 1 / 0", 1),
        ("1 in [1, 2] && !(3 in [1, 2])", True),
        ("'a' in {'a': 1}", True),
        ("[3, 1, 2].filter(x, x > 1).map(x, x * 2)", [6, 4]),
        ("[1, 2, 3].map(x, x % 2 == 1, x * 10)", [10, 30]),
        ("[1, 2].exists_one(x, x == 2) && [1, 2].existsOne(i, x, x > 1)", True),
        ("cel.bind(x, 2, x * x) + [1].map(x, x)[0]", 5),
        ("{'b': 1, 'a': 2}.map(k, k)", ["b", "a"]),
        ("['b', 'a'].sort().join('-')", "a-b"),
        ("['bb', 'a'].sortBy(s, size(s))", ["a", "bb"]),
        ("[?optional.none(), ?optional.of(1)]", [1]),
        ("{}.?a.?b.orValue('none')", "none"),
        ("{'a': {'b': 1}}.?a.b.value()", 1),
        ("optional.of(2).optMap(x, x + 1).value()", 3),
        ("semver('1.2.3').isLessThan(semver('1.10.0')) && semver('v1.2', true) == semver('1.2.0')", True),
        ("quantity('1Gi') == quantity('1024Mi') && quantity('2').compareTo(quantity('1')) == 1", True),
        ("quantity('1Gi').isGreaterThan(quantity('1G'))", True),
        ("sets.contains([1, 2], [2])", True),
        ("'GPU-Ä'.lowerAscii()", "gpu-Ä"),
        ("'H100'.matches('^H[0-9]+$') && 'a1b22'.findAll('[0-9]+') == ['1', '22']", True),
        ("type(1) == int && type('') != int", True),
        ("string(1e21) + string(1.0) + string(true)", "1e+211true"),
        ("int('42') + int(4.9)", 46),
        ("true // a comment\n && true", True),
    ],
)
def test_values(expression: str, expected: object) -> None:
    value = _value(expression)
    assert (value, type(value)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("device.driver == 'gpu.accel-dra.dev'", True),
        ("device.attributes['accel-dra.dev'].model.startsWith('H100')", True),
        ("device.attributes['accel-dra.dev'].index == 0", True),
        ("device.attributes['accel-dra.dev'].driverVersion.isGreaterThan(semver('570.0.0'))", True),
        ("device.attributes['gpu.accel-dra.dev'].local", True),
        ("device.capacity['accel-dra.dev'].memory.compareTo(quantity('80Gi')) >= 0", True),
        ("'elsewhere.example' in device.attributes", False),
        ("device.attributes['elsewhere.example'].size() == 0", True),
        ("has(device.attributes['accel-dra.dev'].profile)", False),
        ("device.attributes['accel-dra.dev'].?profile.orValue('') == '1g.10gb'", False),
        ("device.allowMultipleAllocations", False),
        ("device.attributes['x'].y == 1 && device.driver == 'other'", False),
        ("device.attributes['x'].y == 1 || device.driver.startsWith('gpu')", True),
    ],
)
def test_devices(expression: str, expected: bool) -> None:
    assert cel.matches(cel.compile_selector(expression), VIEW) is expected


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("device.attributes['accel-dra.dev'].profile == 'x'", "no such key: profile"),
        ("device.attributes['accel-dra.dev'].index", "CEL result of type int"),
        ("device.attributes['accel-dra.dev'].driverVersion == '580.126.9'", "no such overload"),
        ("9223372036854775807 + 1 > 0", "integer overflow"),
        ("0u - 1u > 0u", "unsigned integer overflow"),
        ("1 / 0 == 1", "division by zero"),
        ("[1][1] == 1", "index out of bounds: 1"),
        ("dyn('a') < 1", "no such overload"),
        ("true && dyn(device.driver)", "no such overload"),
        ("[1 / 0 == 1].exists(x, x)", "division by zero"),
        ("quantity('many') == quantity('1')", "quantities must match"),
        ("semver('01.0.0').major() == 1", "leading zeroes"),
        ("optional.none().value() == 1", r"optional.none\(\) dereference"),
        ("'a'.substring(2) == ''", "index out of range: 2"),
        ("dyn(1.0 / 0.0 - 1.0 / 0.0) < 1", "NaN values cannot be ordered"),
        ("device.driver.matches(device.driver + '[')", "error parsing regexp"),
    ],
)
def test_errors_while_evaluating(expression: str, reason: str) -> None:
    with pytest.raises(cel.EvaluationError, match=reason):
        cel.matches(cel.compile_selector(expression), VIEW)


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("", "unexpected 'end of the expression'"),
        ("true &&", "unexpected 'end of the expression'"),
        ("(true", r"expected '\)'"),
        ("true)", r"unexpected '\)'"),
        ("devices.driver == ''", "undeclared reference to 'devices'"),
        ("object.kind == ''", "undeclared reference to 'object'"),
        ("device.nope", "undefined field 'nope'"),
        ("has(device.nope)", "undefined field 'nope'"),
        ("has(device)", r"invalid argument to has\(\)"),
        ("device.driver.nope()", "undeclared reference to 'nope'"),
        ("nope(1)", "undeclared reference to 'nope'"),
        ("size()", "no matching overload"),
        ("1 == 1.0", r"no matching overload for '_==_' applied to '\(int, double\)'"),
        ("[1, 'a'].size() == 2", "expected type 'int' but found 'string'"),
        ("{'a': 1, 'b': 'c'}.size() == 2", "expected type 'int' but found 'string'"),
        ("[device.attributes['d'].x, 1].size() == 2", "expected type 'any' but found 'int'"),
        ("device.capacity['d'].x == 1", r"applied to '\(kubernetes.Quantity, int\)'"),
        ("device.capacity['d'].x.compareTo('1') == 1", r"applied to 'kubernetes.Quantity.\(string\)'"),
        ("true ? 1 : 'a'", "no matching overload for '_\\?_:_'"),
        ("device.driver && true", "no matching overload for '_&&_'"),
        ("device.attributes['d'].x.exists(y, true)", "cannot be range of a comprehension"),
        ("[1].all(x, x)", "applied to"),
        ("int.max > 0", "does not support field selection"),
        ("duration('1d') == duration('24h')", "invalid duration argument"),
        ("timestamp('yesterday') == timestamp(0)", "invalid timestamp argument"),
        ("'%d'.format(['x']) == ''", "error during formatting"),
        ("'%d'.format([1, 2]) == ''", "too many arguments"),
        ("'%z'.format([1]) == ''", "unrecognized formatting clause"),
        ("'%s %s'.format([1]) == ''", "out of range"),
        ("[1].all(x.y, true)", "argument must be a simple name"),
        ("[1].all(i, i, true)", "duplicate variable name"),
        ("[1].all(__result__, true)", "overwrites accumulator"),
        ("cel.bind(1, 2, true)", "must be simple identifiers"),
        ("cel.bind(x, 1)", "undeclared reference to '(x|cel)'"),
        ("optional.of(1).optMap(1, 2).hasValue()", "must be a simple identifier"),
        ("'a'.sortBy(x, x) == []", "sortBy can only be applied"),
        ("{[1]: 2}[[1]] == 2", "invalid qualifier type"),
        ("string(null) == ''", "no such overload"),
        ("dyn(true)", "must evaluate to bool or the unknown type, not dyn"),
        ("!-true", "unexpected '-'"),
        ("device.`driver` == ''", "unexpected character '`'"),
        ("[1].includes(1)", "undeclared reference to 'includes'"),
        ("[1].all(1, true)", "argument must be a simple name"),
        ("if == 1", "reserved identifier: if"),
        ("'open", "not closed"),
        ("'\\q' == ''", "invalid escape"),
        ("'\\ud800' == ''", "invalid unicode"),
        ("9223372036854775808 > 0", "invalid int literal"),
        ("18446744073709551616u > 0u", "invalid uint literal"),
        ("1e400 > 0.0", "invalid double literal"),
        ("int('x') == 1", "type conversion error"),
        ("device.driver.matches('[')", "error parsing regexp"),
        ("device.driver.matches('(?=x)')", "error parsing regexp"),
        ("Device{driver: 'x'} == 1", "undeclared reference to 'Device'"),
        ("google.protobuf.Int32Value{values: 1} == 1", "undefined field 'values'"),
        ("google.protobuf.Int32Value{value: 'a'} == 1", "expected type of field 'value' is 'int'"),
        ("trüe", "unexpected character 'ü'"),
        ("'a'", "must evaluate to bool"),
        ("[true]", "must evaluate to bool"),
    ],
)
def test_errors_while_compiling_say_what_and_where(expression: str, reason: str) -> None:
    with pytest.raises(cel.CompileError, match=reason):
        cel.compile_selector(expression)


def test_an_error_names_its_position() -> None:
    with pytest.raises(cel.CompileError, match="at character 9: ") as raised:
        cel.compile("true && nope")
    assert raised.value.position == 8


def test_admission_expressions_see_plain_json() -> None:
    request = {"userInfo": {"extra": {"authentication.kubernetes.io/node-name": ["node-1"]}}}
    slice_ = {"metadata": {"name": "s", "namespace": "n"}, "spec": {"nodeName": "node-1"}}
    expression = "variables.node == (request.operation == 'DELETE' ? oldObject : object).spec.?nodeName.orValue('')"
    variables = {"node": "node-1"}
    assert _value(
        expression, request={**request, "operation": "DELETE"}, oldObject=slice_, object=None, variables=variables
    )
    node = "request.userInfo.extra[?'authentication.kubernetes.io/node-name'][0].orValue('')"
    assert _value(node, request=request) == "node-1"
    assert _value(node, request={"userInfo": {"extra": {}}}) == ""
    assert _value("object.metadata.namespace", object=slice_) == "n"


def test_a_variable_that_is_not_given_fails_only_where_it_is_read() -> None:
    assert _value("true || object.kind == 'Pod'") is True
    with pytest.raises(cel.EvaluationError, match=r"no such attribute\(s\): object"):
        _value("object.kind == 'Pod'")


def test_a_lazy_binding_is_evaluated_when_it_is_used() -> None:
    assert _value("cel.bind(x, 1 / 0, true)") is True
    with pytest.raises(cel.EvaluationError, match="division by zero"):
        _value("cel.bind(x, 1 / 0, x == 1)")


def test_a_program_is_reusable_and_remembers_nothing() -> None:
    program = cel.compile("cel.bind(x, object.n + 1, [x, x].map(y, y * 2))")
    assert [program.evaluate({"object": {"n": n}}) for n in (1, 2, 1)] == [[4, 4], [6, 6], [4, 4]]


def test_a_published_attribute_without_a_value_fails_every_expression() -> None:
    with pytest.raises(cel.EvaluationError, match="attribute bad: unsupported attribute value"):
        cel.view("d", Device(name="x", attributes={"bad": DeviceAttribute()}))
    with pytest.raises(cel.EvaluationError, match="attribute v: parse semantic version"):
        cel.view("d", Device(name="x", attributes={"v": DeviceAttribute(version="1.2")}))
    with pytest.raises(cel.EvaluationError, match="capacity m"):
        cel.view("d", Device(name="x", capacity={"m": DeviceCapacity(value="lots")}))


def test_long_chains_of_conditions_are_fine() -> None:
    assert _value(" && ".join(["true"] * 1000)) is True
    assert _value(" || ".join(["false"] * 1000)) is False


def test_the_deepest_allowed_expression_evaluates() -> None:
    assert _value("1" + "+1" * 250) == 251
    assert _value("(" * 249 + "true" + ")" * 249) is True
    assert _value("[1].all(x, " * 30 + "true" + ")" * 30) is True


def test_a_full_stack_is_an_error_of_ours() -> None:
    program = cel.compile("object" + "+1" * 90)

    def sink(depth: int) -> object:
        return program.evaluate({"object": 1}) if depth == 0 else sink(depth - 1)

    def outcome(spare: int) -> str:
        try:
            return str(sink(sys.getrecursionlimit() - spare))
        except cel.EvaluationError as error:
            return str(error)
        except RecursionError:
            return "no room to call us"

    outcomes = {outcome(spare) for spare in range(40, 600, 7)}
    assert {"91", "the expression is nested too deeply for this stack"} <= outcomes


def test_half_a_surrogate_pair_is_an_error_of_ours() -> None:
    for expression in ("'a'.matches(object)", "object.matches('a')", "object.find('a') == ''"):
        with pytest.raises(cel.EvaluationError, match="no valid Unicode"):
            _value(expression, object="\ud800")
    with pytest.raises(cel.CompileError, match="no valid Unicode"):
        cel.compile("object.matches('\ud800')")


LISTED = PublishedDevice(
    "gpu-0",
    attributes={
        "a/s": Attribute(strings=("x", "y")),
        "a/i": Attribute(ints=(1, 2)),
        "a/b": Attribute(bools=(True,)),
        "a/v": Attribute(versions=("1.2.3",)),
        "a/one": Attribute(string="z"),
        "a/n": Attribute(int_=3),
    },
)


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        ('s.includes("x")', True),
        ('s.includes("q")', False),
        ("i.includes(2)", True),
        ("b.includes(true)", True),
        ('v.includes(semver("1.2.3"))', True),
        ('one.includes("z")', True),
        ("one.includes(3)", False),
        ("n.includes(3)", True),
        ('s == ["x", "y"]', True),
        ("i.size() == 2", True),
        ('s.exists(text, text == "y")', True),
    ],
)
def test_list_attributes_are_lists_under_the_gate(rest: str, expected: bool) -> None:
    program = cel.compile_selector(f'device.attributes["a"].{rest}', list_attributes=True)
    assert cel.matches(program, cel.view("a", LISTED, list_attributes=True)) is expected


def test_list_attributes_fail_every_expression_without_the_gate() -> None:
    program = cel.compile_selector('device.driver == "a"')
    with pytest.raises(cel.EvaluationError, match="a/s: unsupported attribute value"):
        cel.matches(program, cel.view("a", LISTED))
