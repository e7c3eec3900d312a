"""Generated code and the interpreter agree, on recorded and on random expressions; nothing but our errors escapes."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driver.core import cel
from driver.core.cel import programs, scopes
from driver.core.cel.errors import EvaluationError
from driver.core.cel.values import kind_of
from driver.model.slices import Device, DeviceAttribute, DeviceCapacity
from hack.replay.cel import make_view
from hack.replay.files import read

FILE: Final = Path(__file__).parents[2] / "vectors" / "cel" / "selectors.jsonl"
VECTORS: Final = [vector for _, vector in read(FILE) if vector["category"] != "cost"]
THREE_CLAUSES: Final = (
    'device.driver == "d" && device.attributes["d"].s.lowerAscii().matches("^h100") && '
    'device.capacity["d"].memory.compareTo(quantity("40Gi")) >= 0'
)


def outcomes(program: cel.Program, view: cel.View) -> tuple[object, object]:
    """Return what the program gives as it runs normally, and what its interpreter gives."""
    try:
        value = program.evaluate_device(view)
        fast: object = kind_of(value), repr(value)
    except EvaluationError as error:
        fast = str(error)
    traced = program.trace({"device": view})
    return fast, str(traced.error) if traced.error else (kind_of(traced.value), repr(traced.value))


def test_recorded_selectors_give_the_same_both_ways() -> None:
    compared = 0
    for vector in VECTORS:
        try:
            program = cel.compile_selector(str(vector["expression"]))
            device = vector["device"]
            assert isinstance(device, dict)
            view = make_view(device)
        except cel.CelError:
            continue
        compared += program.is_fast
        fast, exact = outcomes(program, view)
        assert fast == exact, vector["expression"]
    assert compared > 250


@pytest.mark.parametrize(
    "expression",
    [
        THREE_CLAUSES,
        'device.attributes["d"].?s.orValue("") == "gpu"',
        '"s" in device.attributes["d"] && has(device.attributes["d"].s)',
        'device.attributes["d"].v.isGreaterThan(semver("1.2.3"))',
        'device.attributes["d"].n in [1, 2] || device.attributes["d"].s in ["a", "b"]',
        "device.attributes.exists(d, d == 'd') && device.attributes['d'].all(k, k.size() < 9)",
        "cel.bind(a, device.attributes['d'], a.n > 1 && a.s.startsWith('H'))",
        "[3, 1].map(x, x * 2).filter(x, x > 2) == [6]",
        "['a'].map(x, x + 'b')[0] == 'ab' && [1, 2].exists_one(x, x == 2) && [1].exists(i, v, i < v)",
        "device.allowMultipleAllocations ? size(device.capacity) == 1 : device.driver.contains('d')",
    ],
)
def test_what_selectors_usually_say_has_code(expression: str) -> None:
    assert cel.compile_selector(expression).is_fast


def test_no_text_of_a_user_is_in_the_code() -> None:
    program = cel.compile_selector(
        "device.driver == '\"); __import__(\"os\") #' || device.attributes['__x__'].y == 'z'"
    )
    assert program.is_fast
    view = cel.view('"); __import__("os") #', Device(name="x"))
    assert cel.matches(program, view) is True


def test_what_costs_are_counted_for_has_no_code() -> None:
    assert not cel.compile_selector("lists.range(300000).sum() > 0").is_fast
    assert not cel.compile("object.x == 1").is_fast


NAMES: Final = ("s", "n", "b", "v", "missing")
TEXTS: Final = st.sampled_from(("''", "'a'", "'H100'", "'1.2.3'", "'2'", "'ä'", "device.driver"))
NUMBERS: Final = st.sampled_from(("0", "1", "-3", "9223372036854775807", "size('ab')"))
ATTRIBUTES: Final = st.sampled_from([f'device.attributes["{d}"].{name}' for d in ("d", "e", "zz") for name in NAMES])
QUANTITIES: Final = st.sampled_from(
    ("quantity('1Gi')", "quantity('5')", 'device.capacity["d"].memory', 'device.capacity["d"].missing')
)


def compound(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Return booleans made of booleans, texts, numbers, attributes, quantities."""
    texts = st.one_of(
        TEXTS,
        ATTRIBUTES,
        TEXTS.map(lambda a: f"{a}.lowerAscii()"),
        st.tuples(TEXTS, ATTRIBUTES).map(lambda p: f"({p[0]} + {p[1]})"),
        st.tuples(ATTRIBUTES, TEXTS).map(lambda p: f"({p[0]} == {p[1]} ? {p[1]} : {p[0]})"),
        ATTRIBUTES.map(lambda a: f"string({a})"),
        st.sampled_from(NAMES).map(lambda n: f"device.attributes['d'].?{n}.orValue('x')"),
    )
    numbers = st.one_of(
        NUMBERS,
        ATTRIBUTES,
        st.tuples(NUMBERS, st.sampled_from("+-*/%"), ATTRIBUTES).map(lambda p: f"({p[0]} {p[1]} {p[2]})"),
        texts.map(lambda a: f"size({a})"),
        st.tuples(QUANTITIES, QUANTITIES).map(lambda p: f"{p[0]}.compareTo({p[1]})"),
    )
    comparison = st.sampled_from(("==", "!=", "<", "<=", ">", ">="))
    return st.one_of(
        st.tuples(inner, st.sampled_from(("&&", "||")), inner).map(lambda p: f"({p[0]} {p[1]} {p[2]})"),
        inner.map(lambda a: f"!{a}"),
        st.tuples(inner, inner, inner).map(lambda p: f"({p[0]} ? {p[1]} : {p[2]})"),
        st.tuples(texts, comparison, texts).map(lambda p: f"({p[0]} {p[1]} {p[2]})"),
        st.tuples(numbers, comparison, numbers).map(lambda p: f"({p[0]} {p[1]} {p[2]})"),
        st.tuples(texts, st.sampled_from(("startsWith", "endsWith", "contains", "matches")), TEXTS).map(
            lambda p: f"{p[0]}.{p[1]}({p[2]})"
        ),
        st.tuples(numbers, NUMBERS).map(lambda p: f"({p[0]} in [{p[1]}, 2])"),
        st.tuples(texts, TEXTS).map(lambda p: f"({p[0]} in [{p[1]}, 'H100'])"),
        ATTRIBUTES.map(lambda a: f"has({a})"),
        inner.map(lambda a: f"cel.bind(x, {a}, x || device.attributes['d'].b)"),
        inner.map(lambda a: f"[1, 2].exists(x, x == 2 && {a})"),
        inner.map(lambda a: f"device.attributes['d'].all(k, k != 'q' || {a})"),
        ATTRIBUTES.map(lambda a: f"{a}.isGreaterThan(semver('1.0.0'))"),
        ATTRIBUTES.map(lambda a: f"dyn({a}) == dyn(1.0)"),
    )


BOOLEANS: Final = st.recursive(st.sampled_from(("true", "false", "device.attributes['d'].b")), compound, max_leaves=8)
DEVICES: Final = st.builds(
    lambda chosen, capacity: Device(name="x", attributes=chosen, capacity=capacity),
    st.dictionaries(
        st.sampled_from(("s", "n", "b", "v", "e/s", "e/n")),
        st.one_of(
            st.sampled_from(("", "a", "H100", "1.2.3")).map(lambda text: DeviceAttribute(string=text)),
            st.sampled_from((0, 1, 2, -3, 2**63 - 1)).map(lambda number: DeviceAttribute(int_=number)),
            st.booleans().map(lambda flag: DeviceAttribute(bool_=flag)),
            st.sampled_from(("1.2.3", "0.9.0-rc.1")).map(lambda version: DeviceAttribute(version=version)),
        ),
    ),
    st.dictionaries(st.just("memory"), st.sampled_from(("80Gi", "1", "1500m")).map(lambda v: DeviceCapacity(value=v))),
)


@settings(max_examples=150, deadline=None)
@given(BOOLEANS, DEVICES)
def test_random_selectors_give_the_same_both_ways(expression: str, device: Device) -> None:
    try:
        program = programs.compile(expression, scopes.DEVICE)
    except cel.CompileError:
        return
    fast, exact = outcomes(program, cel.view("d", device))
    assert fast == exact
    assert programs.max_cost(program) >= 0


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60), st.text(max_size=30))
def test_random_bytes_and_texts_give_only_our_errors(octets: bytes, text: str) -> None:
    for expression in (octets.decode(errors="replace"), octets.decode("latin-1"), text):
        try:
            cel.compile_selector(expression)
        except cel.CompileError:
            continue


WORDS: Final = """
device attributes capacity driver [ ] ( ) { } . , ? : ! - + * / % < <= == != && || in 'a' "d" 1 2u 1.5 true null
all exists map filter has cel bind optional of none x y size matches b'z' r'\\d' .? [? quantity semver ip format
"""
TOKENS: Final = WORDS.split()


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(TOKENS), max_size=14).map(" ".join))
def test_random_tokens_give_only_our_errors(expression: str) -> None:
    try:
        program = programs.compile(expression, scopes.ALL)
        program.evaluate({"device": cel.view("d", Device(name="x"))})
    except cel.CelError:
        return
