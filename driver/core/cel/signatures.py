"""Which functions exist, and the types of their arguments and results: one line an overload.

Called by checking (which overloads fit) and library (what runs). A line is `function overload-id signature`;
`string.(int) -> string` is a method of strings. Overload ids are those of cel-go and of Kubernetes' libraries, because
the cost of a call depends on them. The order of lines is the order in which overloads are tried.
Sources: cel-go common/stdlib/standard.go, cel/library.go, ext/*.go; k8s.io/apiserver pkg/cel/library/*.go, v1.36.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from driver.core.cel import typesystem
from driver.core.cel.typesystem import Type

_ORDERED: Final = ("bool", "int", "uint", "double", "string", "bytes", "timestamp", "duration")
_IDS: Final = {"int": "int64", "uint": "uint64"}
_SORTABLE: Final = ("int", "uint", "double", "bool", "duration", "timestamp", "string", "bytes")
_SUMMABLE: Final = ("int", "uint", "double", "duration")
_ZONED: Final = {
    "getFullYear": "year",
    "getMonth": "month",
    "getDayOfYear": "day_of_year",
    "getDayOfMonth": "day_of_month",
    "getDate": "day_of_month_1_based",
    "getDayOfWeek": "day_of_week",
    "getHours": "hours",
    "getMinutes": "minutes",
    "getSeconds": "seconds",
    "getMilliseconds": "milliseconds",
}
_FORMATS: Final = [
    "dns1123Label",
    "dns1123Subdomain",
    "dns1035Label",
    "qualifiedName",
    "dns1123LabelPrefix",
    "dns1123SubdomainPrefix",
    "dns1035LabelPrefix",
    "labelValue",
    "uri",
    "uuid",
    "byte",
    "date",
    "datetime",
]

_OPERATORS: Final = """
_?_:_ conditional (bool, A, A) -> A
_&&_ logical_and (bool, bool) -> bool
_||_ logical_or (bool, bool) -> bool
!_ logical_not (bool) -> bool
@not_strictly_false not_strictly_false (bool) -> bool
_==_ equals (A, A) -> bool
_!=_ not_equals (A, A) -> bool
_+_ add_bytes (bytes, bytes) -> bytes
_+_ add_double (double, double) -> double
_+_ add_duration_duration (duration, duration) -> duration
_+_ add_duration_timestamp (duration, timestamp) -> timestamp
_+_ add_timestamp_duration (timestamp, duration) -> timestamp
_+_ add_int64 (int, int) -> int
_+_ add_list (list(A), list(A)) -> list(A)
_+_ add_string (string, string) -> string
_+_ add_uint64 (uint, uint) -> uint
_/_ divide_double (double, double) -> double
_/_ divide_int64 (int, int) -> int
_/_ divide_uint64 (uint, uint) -> uint
_%_ modulo_int64 (int, int) -> int
_%_ modulo_uint64 (uint, uint) -> uint
_*_ multiply_double (double, double) -> double
_*_ multiply_int64 (int, int) -> int
_*_ multiply_uint64 (uint, uint) -> uint
-_ negate_double (double) -> double
-_ negate_int64 (int) -> int
_-_ subtract_double (double, double) -> double
_-_ subtract_duration_duration (duration, duration) -> duration
_-_ subtract_int64 (int, int) -> int
_-_ subtract_timestamp_duration (timestamp, duration) -> timestamp
_-_ subtract_timestamp_timestamp (timestamp, timestamp) -> duration
_-_ subtract_uint64 (uint, uint) -> uint
_[_] index_list (list(A), int) -> A
_[_] index_map (map(A, B), A) -> B
_[_] optional_list_index_int (optional(list(V)), int) -> optional(V)
_[_] optional_map_index_value (optional(map(K, V)), K) -> optional(V)
_[?_] list_optindex_optional_int (list(V), int) -> optional(V)
_[?_] optional_list_optindex_optional_int (optional(list(V)), int) -> optional(V)
_[?_] map_optindex_optional_value (map(K, V), K) -> optional(V)
_[?_] optional_map_optindex_optional_value (optional(map(K, V)), K) -> optional(V)
@in in_list (A, list(A)) -> bool
@in in_map (A, map(A, B)) -> bool
"""

_CONVERSIONS: Final = """
type type (A) -> type(A)
dyn to_dyn (A) -> dyn
bool bool_to_bool (bool) -> bool
bool string_to_bool (string) -> bool
bytes bytes_to_bytes (bytes) -> bytes
bytes string_to_bytes (string) -> bytes
double double_to_double (double) -> double
double int64_to_double (int) -> double
double string_to_double (string) -> double
double uint64_to_double (uint) -> double
duration duration_to_duration (duration) -> duration
duration int64_to_duration (int) -> duration
duration string_to_duration (string) -> duration
int int64_to_int64 (int) -> int
int double_to_int64 (double) -> int
int duration_to_int64 (duration) -> int
int string_to_int64 (string) -> int
int timestamp_to_int64 (timestamp) -> int
int uint64_to_int64 (uint) -> int
string string_to_string (string) -> string
string bool_to_string (bool) -> string
string bytes_to_string (bytes) -> string
string double_to_string (double) -> string
string duration_to_string (duration) -> string
string int64_to_string (int) -> string
string timestamp_to_string (timestamp) -> string
string uint64_to_string (uint) -> string
string ip_to_string (IP) -> string
string cidr_to_string (CIDR) -> string
timestamp timestamp_to_timestamp (timestamp) -> timestamp
timestamp int64_to_timestamp (int) -> timestamp
timestamp string_to_timestamp (string) -> timestamp
uint uint64_to_uint64 (uint) -> uint
uint double_to_uint64 (double) -> uint
uint int64_to_uint64 (int) -> uint
uint string_to_uint64 (string) -> uint
"""

_TEXTS: Final = """
size size_bytes (bytes) -> int
size bytes_size bytes.() -> int
size size_list (list(A)) -> int
size list_size list(A).() -> int
size size_map (map(A, B)) -> int
size map_size map(A, B).() -> int
size size_string (string) -> int
size string_size string.() -> int
contains contains_string string.(string) -> bool
endsWith ends_with_string string.(string) -> bool
startsWith starts_with_string string.(string) -> bool
matches matches (string, string) -> bool
matches matches_string string.(string) -> bool
charAt string_char_at_int string.(int) -> string
indexOf string_index_of_string string.(string) -> int
indexOf string_index_of_string_int string.(string, int) -> int
indexOf list_a_index_of_int list(A).(A) -> int
lastIndexOf string_last_index_of_string string.(string) -> int
lastIndexOf string_last_index_of_string_int string.(string, int) -> int
lastIndexOf list_a_last_index_of_int list(A).(A) -> int
lowerAscii string_lower_ascii string.() -> string
upperAscii string_upper_ascii string.() -> string
replace string_replace_string_string string.(string, string) -> string
replace string_replace_string_string_int string.(string, string, int) -> string
split string_split_string string.(string) -> list(string)
split string_split_string_int string.(string, int) -> list(string)
substring string_substring_int string.(int) -> string
substring string_substring_int_int string.(int, int) -> string
trim string_trim string.() -> string
format string_format string.(list(dyn)) -> string
strings.quote strings_quote (string) -> string
join list_join list(string).() -> string
join list_join_string list(string).(string) -> string
find string_find_string string.(string) -> string
findAll string_find_all_string string.(string) -> list(string)
findAll string_find_all_string_int string.(string, int) -> list(string)
"""

_COLLECTIONS: Final = """
slice list_slice list(T).(int, int) -> list(T)
flatten list_flatten list(list(T)).() -> list(T)
flatten list_flatten_int list(dyn).(int) -> list(dyn)
lists.range lists_range (int) -> list(int)
reverse list_reverse list(T).() -> list(T)
distinct list_distinct list(T).() -> list(T)
last list_last list(V).() -> optional(V)
first list_first list(V).() -> optional(V)
sets.contains list_sets_contains_list (list(T), list(T)) -> bool
sets.equivalent list_sets_equivalent_list (list(T), list(T)) -> bool
sets.intersects list_sets_intersects_list (list(T), list(T)) -> bool
cel.@mapInsert @mapInsert_map_key_value (map(K, V), K, V) -> map(K, V)
cel.@mapInsert @mapInsert_map_map (map(K, V), map(K, V)) -> map(K, V)
optional.of optional_of (V) -> optional(V)
optional.ofNonZeroValue optional_ofNonZeroValue (V) -> optional(V)
optional.none optional_none () -> optional(V)
optional.unwrap optional_unwrap (list(optional(V))) -> list(V)
unwrapOpt optional_unwrapOpt list(optional(V)).() -> list(V)
value optional_value optional(V).() -> V
hasValue optional_hasValue optional(V).() -> bool
or optional_or_optional optional(V).(optional(V)) -> optional(V)
orValue optional_orValue_value optional(V).(V) -> V
"""

_KUBERNETES: Final = """
quantity string_to_quantity (string) -> Quantity
isQuantity is_quantity_string (string) -> bool
sign quantity_sign (Quantity) -> int
isGreaterThan quantity_is_greater_than Quantity.(Quantity) -> bool
isGreaterThan semver_is_greater_than Semver.(Semver) -> bool
isLessThan quantity_is_less_than Quantity.(Quantity) -> bool
isLessThan semver_is_less_than Semver.(Semver) -> bool
compareTo quantity_compare_to Quantity.(Quantity) -> int
compareTo semver_compare_to Semver.(Semver) -> int
asApproximateFloat quantity_get_float Quantity.() -> double
asInteger quantity_get_int Quantity.() -> int
isInteger quantity_is_integer Quantity.() -> bool
add quantity_add Quantity.(Quantity) -> Quantity
add quantity_add_int Quantity.(int) -> Quantity
sub quantity_sub Quantity.(Quantity) -> Quantity
sub quantity_sub_int Quantity.(int) -> Quantity
semver string_to_semver (string) -> Semver
semver string_bool_to_semver (string, bool) -> Semver
isSemver is_semver_string (string) -> bool
isSemver is_semver_string_bool (string, bool) -> bool
major semver_major Semver.() -> int
minor semver_minor Semver.() -> int
patch semver_patch Semver.() -> int
url string_to_url (string) -> URL
isURL is_url_string (string) -> bool
getScheme url_get_scheme URL.() -> string
getHost url_get_host URL.() -> string
getHostname url_get_hostname URL.() -> string
getPort url_get_port URL.() -> string
getEscapedPath url_get_escaped_path URL.() -> string
getQuery url_get_query URL.() -> map(string, list(string))
ip string_to_ip (string) -> IP
ip cidr_ip CIDR.() -> IP
isIP is_ip (string) -> bool
ip.isCanonical ip_is_canonical (string) -> bool
family ip_family IP.() -> int
isUnspecified ip_is_unspecified IP.() -> bool
isLoopback ip_is_loopback IP.() -> bool
isLinkLocalMulticast ip_is_link_local_multicast IP.() -> bool
isLinkLocalUnicast ip_is_link_local_unicast IP.() -> bool
isGlobalUnicast ip_is_global_unicast IP.() -> bool
cidr string_to_cidr (string) -> CIDR
isCIDR is_cidr (string) -> bool
containsIP cidr_contains_ip_string CIDR.(string) -> bool
containsIP cidr_contains_ip_ip CIDR.(IP) -> bool
containsCIDR cidr_contains_cidr_string CIDR.(string) -> bool
containsCIDR cidr_contains_cidr CIDR.(CIDR) -> bool
prefixLength cidr_prefix_length CIDR.() -> int
masked cidr_masked CIDR.() -> CIDR
validate format-validate Format.(string) -> optional(list(string))
format.named format-named (string) -> optional(Format)
"""
INCLUDES: Final = "includes dra_includes_dyn_dyn dyn.(dyn) -> bool"
"""Declared only where attributes may be lists (feature gate DRAListTypeAttributes)."""


@dataclass(frozen=True, slots=True)
class Overload:
    """One signature of a function. The first parameter of a method is its target."""

    function: str
    id: str
    method: bool
    parameters: tuple[Type, ...]
    result: Type


_LINE: Final = re.compile(r"(\S+) (\S+) (?:(.+)\.)?\((.*)\) -> (.+)")
_WORD: Final = re.compile(r"[A-Za-z]+|[(),]")
_NAMED: Final[Mapping[str, Type]] = {
    "any": typesystem.ANY,
    "dyn": typesystem.DYN,
    "bool": typesystem.BOOL,
    "int": typesystem.INT,
    "uint": typesystem.UINT,
    "double": typesystem.DOUBLE,
    "string": typesystem.STRING,
    "bytes": typesystem.BYTES,
    "duration": typesystem.DURATION,
    "timestamp": typesystem.TIMESTAMP,
    "Quantity": typesystem.QUANTITY,
    "Semver": typesystem.SEMVER,
    "URL": typesystem.URL,
    "Format": typesystem.FORMAT,
    "IP": typesystem.IP,
    "CIDR": typesystem.CIDR,
}


def _types(text: str) -> tuple[Type, ...]:
    """Read a list of types such as `list(A), int`."""
    stack: list[tuple[str, list[Type]]] = [("", [])]
    words = _WORD.findall(text)
    for index, word in enumerate(words):
        if word == ")":
            name, inside = stack.pop()
            stack[-1][1].append(_compound(name, inside))
        elif word not in {"(", ","}:
            if words[index + 1 : index + 2] == ["("]:
                stack.append((word, []))
            else:
                stack[-1][1].append(_NAMED.get(word) or typesystem.parameter(word))
    return tuple(stack[0][1])


def _compound(name: str, inside: list[Type]) -> Type:
    if name == "map":
        return typesystem.map_of(*inside)
    make = {"list": typesystem.list_of, "optional": typesystem.optional_of, "type": typesystem.type_of}[name]
    return make(*inside)


def _overload(line: str) -> Overload:
    found = _LINE.fullmatch(line)
    assert found is not None, line  # noqa: S101 - the tables of this file
    function, name, target, parameters, result = found.groups()
    types = (*_types(target or ""), *_types(parameters))
    return Overload(function, name, target is not None, types, _types(result)[0])


def _generated() -> list[str]:
    """Return the lines that differ in a type only."""
    lines = []
    for sign, word in (("_<_", "less"), ("_<=_", "less_equals"), ("_>_", "greater"), ("_>=_", "greater_equals")):
        for one in _ORDERED:
            lines.append(f"{sign} {word}_{_IDS.get(one, one)} ({one}, {one}) -> bool")
            if one in {"int", "uint", "double"}:
                others = [other for other in ("int", "uint", "double") if other != one]
                lines += [f"{sign} {word}_{_IDS.get(one, one)}_{_IDS.get(b, b)} ({one}, {b}) -> bool" for b in others]
    for type_ in _SORTABLE:
        name = str(_NAMED[type_])
        lines.append(f"isSorted list_{type_}_is_sorted_bool list({type_}).() -> bool")
        lines += [f"{each} list_{type_}_{each}_{type_} list({type_}).() -> {type_}" for each in ("max", "min")]
        lines.append(f"sort list_{name}_sort list({type_}).() -> list({type_})")
        lines.append(f"@sortByAssociatedKeys list_{name}_sortByAssociatedKeys list(T).(list({type_})) -> list(T)")
    lines += [f"sum list_{type_}_sum_{type_} list({type_}).() -> {type_}" for type_ in _SUMMABLE]
    for getter, name in _ZONED.items():
        lines.append(f"{getter} timestamp_to_{name} timestamp.() -> int")
        lines.append(
            f"{getter} timestamp_to_{name}{'_tz' if name == 'seconds' else '_with_tz'} timestamp.(string) -> int"
        )
        if name in {"hours", "minutes", "seconds", "milliseconds"}:
            lines.append(f"{getter} duration_to_{name} duration.() -> int")
    lines += [f"format.{name} format.{name} () -> Format" for name in _FORMATS]
    return lines


def _table(*texts: str) -> Mapping[str, tuple[Overload, ...]]:
    lines = [line for text in texts for line in text.splitlines() if line]
    table: dict[str, tuple[Overload, ...]] = {}
    for overload in map(_overload, lines):
        table[overload.function] = (*table.get(overload.function, ()), overload)
    return table


FUNCTIONS: Final = _table(_OPERATORS, _CONVERSIONS, _TEXTS, _COLLECTIONS, _KUBERNETES, "\n".join(_generated()))
WITH_LISTS: Final = {**FUNCTIONS, **_table(INCLUDES)}
"""The same, and what is declared for attributes that may be lists."""
