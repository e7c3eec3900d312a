"""Every function of the library: what it gives, and which arguments it refuses."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from driver.core import cel
from driver.core.cel import amounts, library, signatures
from driver.core.cel.amounts import Amount
from driver.core.cel.errors import EvaluationError
from driver.core.cel.values import NONE, Optional, TypeName, Uint


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
        ("[1, 2, 1].indexOf(1) + [1, 2, 1].lastIndexOf(1)", 2),
        ("[1].indexOf(2) + [1].lastIndexOf(2)", -2),
        ("[1, 2, 3].slice(1, 3)", [2, 3]),
        ("[[1], [2, 3]].flatten()", [1, 2, 3]),
        ("[[dyn(1), dyn([2])]].flatten()", [1, [2]]),
        ("[[dyn(1), dyn([2])]].flatten(2)", [1, 2]),
        ("[[1], [2]].flatten(0)", [[1], [2]]),
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
        ("string(1e20)", "1e+20"),
        ("bytes('ab') == b'ab'", True),
        ("type(null) == null_type && type({}) == map && type([1]) == list", True),
        ("type(type(1)) == type", True),
        ("dyn(1) == 1.0", True),
        ("optional.ofNonZeroValue('').hasValue()", False),
        ("optional.unwrap([optional.of(1), optional.none()])", [1]),
        ("optional.none().or(optional.of(1)).value()", 1),
        ("optional.none().optMap(x, x).hasValue()", False),
        ("[1, 2, 3].transformList(i, v, i > 0, v * 2)", [4, 6]),
        ("{'a': 1, 'b': 2}.transformMapEntry(k, v, {k + k: v})", {"aa": 1, "bb": 2}),
        ("{'a': 1, 'b': 2}.transformMap(k, v, k == 'a', v + 1)", {"a": 2}),
        ("{'a': 1}.exists(k, v, v == 1) && {'a': 1}.existsOne(k, v, k == 'a') && ![1].all(i, v, i == v)", True),
        ("[3, 1, 2].sortBy(x, -x)", [3, 2, 1]),
        ("[duration('1s'), duration('2s')].sum() == duration('3s')", True),
        ("[optional.of(1), optional.none()].unwrapOpt()", [1]),
        ("{'a': {'b': 1}}[?'a'].?b.orValue(0) + optional.of([7])[0].value()", 8),
        ("optional.of({'k': 1}).k.value() + [1, 2][?5].orValue(3)", 4),
        ("[].first().hasValue() || [1].last().value() != 1", False),
        ("'%.3f|%f'.format([1234567.5, 0.5])", "1,234,567.500|0.500000"),
        ("'%e'.format([0.00012])", "1.200000\u202f\u00d7\u202f10⁻⁰⁴"),
        ("'%.20e'.format([1.0])", "     1.000000\u202f\u00d7\u202f10⁰⁰"),
        ("'%f %f %e'.format(['NaN', '-Infinity', 'Infinity'])", "NaN -∞      ∞"),
        ("'%x %X %x %x'.format([255, 255u, 'ab', b'\\x01'])", "ff FF 6162 01"),
        ("'%o %b %b %d'.format([8, -5, true, 3u])", "10 -101 1 3"),
        ("'%s %s %s %s'.format(['a', 1.5, null, type(1)])", "a 1.5 null int"),
        ("'%s'.format([['a', 2.71, b'x', duration('90s'), null]])", '["a", 2.710000, b"x", duration("90s"), null]'),
        ("'%s'.format([{'b': timestamp(0), 'a': [true]}])", '{"a":[true], "b":timestamp("1970-01-01T00:00:00Z")}'),
        (
            "'%s'.format([{1: 'x', 2u: double('NaN'), true: \"a\\n\\u00e9\\u0001\"}])",
            '{1:"x", 2:"NaN", true:"a\\né\\x01"}',
        ),
        ("'100%% %s%%'.format([1])", "100% 1%"),
        ("string(duration('1h0.5s')) + string(duration('2ns'))", "3600.5s0.000000002s"),
        ("string(timestamp('2024-01-02T03:04:05.120+02:00'))", "2024-01-02T03:04:05.12+02:00"),
        ("string(timestamp('2024-01-02T3:04:05,5Z'))", "2024-01-02T03:04:05.5Z"),
        ("timestamp('2024-01-02T03:04:05.678Z').getMilliseconds()", 678),
        ("timestamp('2024-02-29T23:59:58Z').getDayOfYear() + timestamp('2024-02-29T00:00:00Z').getDate()", 88),
        ("timestamp('2024-02-29T22:59:58Z').getHours('+02:30') + timestamp(0).getMinutes('-00:30')", 31),
        ("timestamp(59).getSeconds() + timestamp(0).getSeconds('UTC') + timestamp(0).getMonth('')", 59),
        ("duration('-1.5h').getMinutes() + duration('90m').getHours()", -89),
        ("duration('3723.456s').getSeconds() + duration('1.5s').getMilliseconds()", 5223),
        ("int(duration('1us')) + int(timestamp('1970-01-01T00:01:00Z'))", 1060),
        ("type(timestamp(0)) == google.protobuf.Timestamp && type(ip('::1')) == net.IP", True),
        ("google.protobuf.Int64Value{value: 4} + google.protobuf.Int64Value{}", 4),
        ("google.protobuf.Duration{seconds: 3, nanos: 5} == duration('3.000000005s')", True),
        ("google.protobuf.Timestamp{seconds: 3} == timestamp(3)", True),
        ("google.protobuf.StringValue{?value: optional.none()}", ""),
        ("string(ip('2001:DB8:0:0::1')) + ' ' + string(cidr('10.0.0.1/8').masked())", "2001:db8::1 10.0.0.0/8"),
        ("ip('10.0.0.1').family() + cidr('::/0').prefixLength() + cidr('::1/7').ip().family()", 10),
        (
            "cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16') && !cidr('10.1.0.0/16').containsCIDR(cidr('10.0.0.0/8'))",
            True,
        ),
        ("cidr('::/0').containsIP('1.2.3.4') || cidr('10.0.0.0/8').containsIP(ip('11.0.0.0'))", False),
        ("ip('255.255.255.255').isGlobalUnicast() || ip('224.0.1.1').isLinkLocalMulticast()", False),
        (
            "ip('ff02::1').isLinkLocalMulticast() && ip('fe80::1').isLinkLocalUnicast() && ip('::').isUnspecified()",
            True,
        ),
        ("ip('224.0.0.9').isLinkLocalMulticast() && ip('169.254.0.1').isLinkLocalUnicast()", True),
        ("isIP('1.2.3') || isIP('01.2.3.4') || isIP('fe80::1%0') || isCIDR('1.2.3.4/33') || isCIDR('::/0 ')", False),
        ("ip.isCanonical('2001:db8::1') && !ip.isCanonical('2001:DB8::1')", True),
        ("url('https://u:p@Host.example:80/a%20b?x=1#f').getHost()", "Host.example:80"),
        (
            "url('HTTPS://h').getScheme() + url('https://[::1]:80/').getHostname() + url('https://h:8').getPort()",
            "https::18",
        ),
        ("url('https://h/a%2Fb c').getEscapedPath() + url('/a!b?q#f').getEscapedPath()", "/a/b%20c/a!b"),
        ("url('https://h?a=b;c&d=%zz&e&f=1+2%20').getQuery()", {"e": [""], "f": ["1 2 "]}),
        ("isURL('https://h') && isURL('/a') && isURL('a:b') && isURL('*') && isURL('http://u@h')", True),
        ("isURL('a') || isURL('') || isURL(':a') || isURL('http://::1/') || isURL('http://[1.2.3.4]')", False),
        ("isURL('http://a b') || isURL('http://h:x') || isURL('http://u^@h') || isURL('/%zz') || isURL('\\n')", False),
        ("url('http://h') == url('http://h') && format.date() == format.named('date').value()", True),
        ("format.dns1123Label().validate('A').hasValue() && format.dns1035Label().validate('1').hasValue()", True),
        ("format.dns1123SubdomainPrefix().validate('a.b-').hasValue()", False),
        ("format.dns1035LabelPrefix().validate('a-').hasValue()", False),
        ("format.qualifiedName().validate('a/b/c').value().size()", 1),
        ("format.qualifiedName().validate('/').value().size()", 3),
        ("format.qualifiedName().validate('example.com/Name').hasValue()", False),
        ("format.uuid().validate('123E4567-e89b-12d3-a456-426614174000').hasValue()", False),
        ("format.datetime().validate('2024-01-01T10:00:00Z').hasValue()", False),
        ("format.datetime().validate('2024-01-01T24:00:00Z').hasValue()", True),
        ("format.date().validate('2024-13-01').hasValue() && format.uri().validate('a').hasValue()", True),
        ("format.labelValue().validate('').hasValue() || format.named('nope').hasValue()", False),
        ("quantity('1000m').isInteger() || quantity('1Pi').isInteger() || quantity('1.0').isInteger()", False),
        ("quantity('1Ti').isInteger() && quantity('0').isInteger() && quantity('-1').add(1).isInteger()", True),
        ("quantity('1k').add(quantity('1500m')).sub(1) == quantity('1000.5')", True),
        ("quantity('9e18').add(quantity('9e18')).isInteger()", False),
        ("'baaab'.findAll('a*') + 'abc'.findAll('x*') + 'é1è2'.findAll('[0-9]')", ["", "aaa", "", *[""] * 4, "1", "2"]),
        ("'abc'.indexOf('', 9) + 'abc'.indexOf('a', 9) + 'tacocat'.lastIndexOf('') + ''.lastIndexOf('a')", 14),
        ("'  \\u00a0x\\u2003'.trim() + 'ab'.replace('', '-', 2)", "x-a-b"),
        ("double('0x1p4') + double('1e2') + double('-.5')", 115.5),
        ("int('+7') + int('-007')", 0),
        ("optional.of(1).optFlatMap(x, optional.none()).hasValue()", False),
    ],
)
def test_functions(expression: str, expected: object) -> None:
    value = _value(expression)
    assert (value, type(value)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("expression", "given", "reason"),
    [
        ("object.substring(2, 1)", "abc", "invalid substring range"),
        ("object.substring(-1)", "abc", "index out of range: -1"),
        ("object.substring(0, 4)", "abc", "index out of range: 4"),
        ("object.charAt(4)", "abc", "index out of range: 4"),
        ("object.charAt(-1)", "abc", "index out of range: -1"),
        ("object.indexOf('a', -1)", "abc", "index out of range: -1"),
        ("object.lastIndexOf('a', -1)", "abc", "index out of range: -1"),
        ("object.join()", [1, "a"], r"no such overload: join\(list\)"),
        ("object.join()", ["a", 1], "join: invalid input"),
        ("[].min()", None, "min called on empty list"),
        ("[].max()", None, "max called on empty list"),
        ("object.sort()", [1, "a"], "must have the same type"),
        ("object.sort()", [[1], [2]], "must be comparable"),
        ("object.sort()", 1, "no such overload: sort"),
        ("object.isSorted()", [1, [2]], r"no such overload: compare\(list\)"),
        ("object.sum()", [1, 2.5], r"no such overload: _\+_\(int, double\)"),
        ("object.sum()", ["a"], r"no such overload: sum\(list\)"),
        ("[1, 2].slice(1, 0)", None, "start index must be less"),
        ("[1, 2].slice(0, 9)", None, "list is length 2"),
        ("[1, 2].slice(-1, 0)", None, "negative indexes"),
        ("[[1]].flatten(-1)", None, "level must be non-negative"),
        ("lists.range(2000000)", None, "actual cost limit exceeded"),
        ("quantity('1500m').asInteger()", None, "cannot convert value to integer"),
        ("quantity('9223372036854775807').asInteger()", None, "cannot convert value to integer"),
        ("int(object)", 1e300, "integer overflow"),
        ("int(object)", math.nan, "integer overflow"),
        ("int(object)", "9223372036854775808", "type conversion error"),
        ("int(object)", "1" * 5000, "type conversion error"),
        ("uint(object)", -1, "unsigned integer overflow"),
        ("uint(object)", -1.5, "unsigned integer overflow"),
        ("uint(object)", "x", "type conversion error"),
        ("uint(object)", "+1", "type conversion error"),
        ("uint(object)", "18446744073709551616", "type conversion error"),
        ("double(object)", "1,5", "type conversion error"),
        ("double(object)", "1e999", "type conversion error"),
        ("double(object)", "0x1p9999", "type conversion error"),
        ("bool(object)", "yes", "type conversion error"),
        ("string(object)", b"\xff", "invalid UTF-8"),
        ("string(object)", [1], "no such overload"),
        ("duration(object)", "1d", "type conversion error"),
        ("duration(object)", "300000000h", "type conversion error"),
        ("duration(object)", 5, "type conversion error from 'int'"),
        ("timestamp(object)", "2024-02-30T00:00:00Z", "type conversion error"),
        ("timestamp(object)", "2024-02-29t00:00:00Z", "type conversion error"),
        ("timestamp(object)", "2024-02-29T00:00:00+25:00", "type conversion error"),
        ("timestamp(object)", "0001-01-01T00:00:00+01:00", "timestamp overflow"),
        ("timestamp(object)", 253402300800, "timestamp overflow"),
        ("timestamp(0).getHours(object)", "Nowhere/City", "unknown time zone"),
        ("timestamp(0).getHours(object)", "ab:cd", "invalid time zone"),
        ("timestamp(0).getHours(object)", "99:00", "invalid time zone"),
        ("timestamp(253402300799).getFullYear(object)", "+02:00", "time zone"),
        ("timestamp(253402300799) + duration('1s')", None, "timestamp overflow"),
        ("timestamp(253402300799) - timestamp(-62135596800)", None, "integer overflow"),
        ("duration('2562047h') + duration('2562047h')", None, "integer overflow"),
        ("object.value()", NONE, "dereference"),
        ("optional.of(object).optMap(x, x).value().nope", [1], "unsupported index type"),
        ("optional.unwrap(object)", [1], r"no such overload: optional.unwrap\(list\)"),
        ("object.filter(x, 'a' == x ? x : true)", ["a"], "no such overload"),
        ("object.all(x, true)", "a", "no such overload: comprehension"),
        ("object.all(i, x, true)", 1, "no such overload: comprehension"),
        ("{'a': 1}.transformMapEntry(k, v, {'b': v}) == {'b': 1} && object", 1, "no such overload"),
        ("[1, 2].transformMapEntry(i, v, {'b': v})", None, "insert failed: key b already exists"),
        ("[?object]", 1, "non-optional value"),
        ("{?'a': object}", 1, "non-optional value"),
        ("object.isGreaterThan(quantity('1'))", "a", "no such overload: isGreaterThan"),
        ("ip(object)", "fe80::1%eth0", "parse error"),
        ("ip(object)", "::ffff:1.2.3.4", "IPv4-mapped"),
        ("cidr(object)", "10.0.0.0/33", "parse error"),
        ("cidr(object)", "10.0.0.0/08", "parse error"),
        ("cidr('10.0.0.0/8').containsIP(object)", "x", "parse error"),
        ("url(object)", "../rel", "invalid URI for request"),
        ("url(object)", "http://[::1", "missing ']'"),
        ("google.protobuf.Int32Value{value: object}", 2**31, "integer overflow"),
        ("google.protobuf.Duration{seconds: object}", 2**40, "integer overflow"),
        ("kubernetes.DRADevice{driver: object}", "d", "unknown type"),
        ("'%d'.format(object)", ["x"], "decimal clause"),
        ("'%s %s'.format(object)", ["x"], "index 1 out of range"),
        ("'%f'.format(object)", [1], "fixed-point clause"),
        ("'%e'.format(object)", ["x"], "scientific clause"),
        ("'%b'.format(object)", ["x"], "binary"),
        ("'%o'.format(object)", [1.5], "octal"),
        ("'%x'.format(object)", [1.5], "hex"),
        ("'%s'.format(object)", [NONE], "string clause"),
        ("'%s'.format(object)", [{1.5: 1}], "map key of type double"),
        ("object.format([1])", "%", "unexpected end of string"),
        ("object.format([1.0])", "%.f", "precision"),
        ("object.format([1.0])", "%.99999f", "precision"),
        ("object.matches('[' + 'a')", "x", "error parsing regexp"),
        ("semver(object)", "1.0.0-18446744073709551616", "too large"),
    ],
)
def test_refusals(expression: str, given: object, reason: str) -> None:
    with pytest.raises(EvaluationError, match=reason):
        _value(expression, object=given)


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


def test_every_overload_that_is_declared_runs() -> None:
    """All functions have an implementation, except those that the interpreter knows itself."""
    known = {"_?_:_", "_&&_", "_||_", "@not_strictly_false", "_[_]", "_[?_]", "or", "orValue", *library.SINGLETONS}
    declared = {each.id for name, each_of in signatures.WITH_LISTS.items() for each in each_of if name not in known}
    assert declared - set(library.IMPLEMENTATIONS) == set()
    assert len(library.IMPLEMENTATIONS) > 200


def test_very_large_quantities_become_infinite_floats() -> None:
    assert _value("object.asApproximateFloat()", object=Amount(10**400, None)) == math.inf
    assert _value("object.asApproximateFloat()", object=Amount(-(10**400), None)) == -math.inf


def test_quantities_do_not_equal_anything_else() -> None:
    with pytest.raises(TypeError):
        assert amounts.parse("1") == "1"
    assert hash(amounts.parse("1Ki")) == hash(amounts.parse("1024"))


def test_values_that_only_pass_through_keep_their_type() -> None:
    assert _value("object", object=NONE) is NONE
    assert _value("type(object)", object=Optional(True, 1)) == TypeName("optional_type")
    assert _value("object.a == object.a", object={"a": (1, 2)}) is True
