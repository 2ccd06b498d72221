"""The value types of the API: what a field may hold, said once for files (a validator) and for the cluster (a schema).

Durations are written as in the Gateway API (`250ms`, `30s`, `1h30m`) and held in seconds; percentages are written `20%`
and held in percent. Every string has a longest length.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, GetCoreSchemaHandler, GetJsonSchemaHandler, PlainSerializer, WithJsonSchema
from pydantic_core import CoreSchema, core_schema

from weighbridge_api.faults import fault

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_DURATION = r"([0-9]{1,5}(h|m|s|ms)){1,4}"
_PERCENTAGE = r"(100|[0-9]{1,2}(\.[0-9]{1,2})?)%"
_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_DNS = rf"{_LABEL}(\.{_LABEL})*"
_MODEL = r"[A-Za-z0-9][A-Za-z0-9._:/+-]*"
_SEGMENT = r"[A-Za-z0-9._~!$&'()*+,:@%-]+"


def cel(rule: str, message: str) -> dict[str, Any]:
    """The API server's form of a rule that Python checks as well, for a field's or a class's `json_schema_extra`."""
    return {"x-kubernetes-validations": [{"rule": rule, "message": message}]}


def cel_all(*rules: tuple[str, str]) -> dict[str, Any]:
    """The same of several rules, each with its message."""
    return {"x-kubernetes-validations": [entry for rule in rules for entry in cel(*rule)["x-kubernetes-validations"]]}


@dataclass(frozen=True, slots=True)
class Matching:
    """A string that matches `pattern` as a whole (no anchors in it); says `message` and `remedy` where it does not."""

    pattern: str
    longest: int
    message: str
    remedy: str
    without: str | None = None
    shortest: int = 1

    def check(self, value: str) -> str:
        if not re.fullmatch(self.pattern, value) or (self.without and self.without in value):
            raise fault(self.message, self.remedy)
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        text = core_schema.str_schema(strict=True, min_length=self.shortest, max_length=self.longest)
        return core_schema.no_info_after_validator_function(self.check, text)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        shape = handler(schema) | {"pattern": f"^({self.pattern})$"}
        return (
            shape | cel(f"!self.contains('{self.without}')", f"must not hold {self.without}") if self.without else shape
        )


@dataclass(frozen=True, slots=True)
class Within:
    """Bounds of a Duration field."""

    least: str
    most: str

    def check(self, seconds: float) -> float:
        if not parse_duration(self.least) <= seconds <= parse_duration(self.most):
            raise fault(
                f"must be from {self.least} to {self.most}, not {format_duration(seconds)}", "change the duration"
            )
        return seconds

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        rule = f"duration(self) >= duration('{self.least}') && duration(self) <= duration('{self.most}')"
        return handler(schema) | cel(rule, f"must be from {self.least} to {self.most}")


def parse_duration(value: object) -> float:
    """Seconds; raises a fault unless it is written as `250ms`, `30s`, `15m`, `1h30m`. Our own floats pass."""
    match value:
        case float():
            return value
        case str() if re.fullmatch(_DURATION, value):
            return round(
                sum(int(number) * _UNITS[unit] for number, unit in re.findall(r"([0-9]+)(ms|h|m|s)", value)), 3
            )
        case int() if not isinstance(value, bool):
            raise fault(f"{value} is a duration without a unit", f"write {value}s, or another of ms, s, m, h")
    raise fault("is not a duration", "write whole numbers with ms, s, m or h: 250ms, 30s, 15m, 1h30m")


def format_duration(seconds: float) -> str:
    """As it is written: `1h30m`, `250ms`, `0s`."""
    rest = round(seconds * 1000)
    text = ""
    for unit, size in (("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        number, rest = divmod(rest, size)
        text += f"{number}{unit}" if number else ""
    return text or "0s"


def parse_percentage(value: object) -> float:
    """Percent, 0..100. Our own floats pass."""
    match value:
        case float():
            return value
        case str() if re.fullmatch(_PERCENTAGE, value):
            return float(value[:-1])
        case int() if not isinstance(value, bool):
            raise fault(f"{value} is a percentage without its sign", f"write {value}%")
    raise fault("is not a percentage", "write it as 20%, from 0% to 100%")


def format_percentage(percent: float) -> str:
    return f"{percent:g}%"


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string", "pattern": f"^{_DURATION}$", "maxLength": 32}),
]
Percentage = Annotated[
    float,
    BeforeValidator(parse_percentage),
    PlainSerializer(format_percentage, return_type=str),
    WithJsonSchema({"type": "string", "pattern": f"^{_PERCENTAGE}$", "maxLength": 8}),
]


@dataclass(frozen=True, slots=True)
class Connectable:
    """An IP address or a DNS name that a connection can be made to."""

    def check(self, value: str) -> str:
        if value.startswith("[") or "/" in value:
            raise fault(
                f'"{value}" is more than a host', "write the address alone; port and path have their own fields"
            )
        try:
            address = ipaddress.ip_address(value)
        except ValueError:
            return self._check_name(value)
        mapped = address.version == 6 and (address.ipv4_mapped or address.scope_id)
        if mapped or address.is_unspecified or address.is_multicast or address.is_link_local or address == _BROADCAST:
            raise fault(f"{value} is not the address of one server", "write the address or DNS name of the node")
        return value

    def _check_name(self, value: str) -> str:
        if value.count(":") == 1:
            raise fault(
                f'"{value}" is more than a host', "write the address alone; port and path have their own fields"
            )
        if not re.fullmatch(_DNS, value) or re.fullmatch(r"[0-9.]+", value):
            raise fault(f'"{value}" is neither an IP address nor a DNS name', "write one of them, in lower case")
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        text = core_schema.str_schema(strict=True, min_length=1, max_length=253)
        return core_schema.no_info_after_validator_function(self.check, text)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        name = "self.matches('^[a-z0-9.-]*[a-z-][a-z0-9.-]*$')"
        address = "ip(self).isGlobalUnicast() || ip(self).isLoopback()"
        rule = f"isIP(self) ? ({address}) : {name}"
        shape = handler(schema) | {"pattern": rf"^({_DNS}|[0-9A-Fa-f:]+(:[0-9.]+)?)$"}
        return shape | cel(rule, "must be the IP address or the DNS name of one server")


@dataclass(frozen=True, slots=True)
class NumberOrName:
    """A port of a Service: its number or its name."""

    def check(self, value: object) -> int | str:
        match value:
            case bool():
                pass
            case int() if 1 <= value <= 65535:
                return value
            case int():
                raise fault(f"must be from 1 to 65535, not {value}", "change the number")
            case str() if value.isdigit():
                raise fault(f'must be a number or a name, not the text "{value[:40]}"', "write it without quotes")
            case str() if re.fullmatch(_PORT_NAME, value) and len(value) <= 63:
                return value
        raise fault("is not a port of a Service", "write its number, or its name in lower case letters, digits and -")

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.check)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        rule = f"type(self) == int ? self >= 1 && self <= 65535 : self.size() <= 63 && self.matches('^{_PORT_NAME}$')"
        return {"x-kubernetes-int-or-string": True, **cel(rule, "must be a port's number, or its name")}


_HOST_REMEDY = "write the address alone; port and path have their own fields"
_PORT_NAME = r"[0-9-]*[a-z][a-z0-9-]*"
_BROADCAST = ipaddress.IPv4Address("255.255.255.255")
_LABEL_CHARACTERS = r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
_SERVED = r"!#-:<>-\[\]-~"
_DNS_REMEDY = "use lower case letters, digits, - and ."
_WORD_REMEDY = "use letters, digits, -, _ and ."

Host = Annotated[str, Connectable()]
ObjectName = Annotated[str, Matching(_DNS, 253, "is not a name that Kubernetes accepts", _DNS_REMEDY)]
ServiceName = Annotated[str, Matching(_LABEL, 63, "is not a Service's name", "use lower case letters, digits and -")]
ServicePort = Annotated[int | str, NumberOrName()]
Namespace = Annotated[str, Matching(_LABEL, 63, "is not a namespace", "use lower case letters, digits and -")]
DnsName = Annotated[str, Matching(_DNS, 253, "is not a DNS name", _DNS_REMEDY)]
LabelKey = Annotated[str, Matching(rf"({_DNS}/)?{_LABEL_CHARACTERS}", 317, "is not a label's key", _WORD_REMEDY)]
LabelValue = Annotated[
    str, Matching(rf"({_LABEL_CHARACTERS})?", 63, "is not a label's value", _WORD_REMEDY, shortest=0)
]
SecretEntry = Annotated[str, Matching(r"[A-Za-z0-9._-]+", 253, "is not the name of an entry", _WORD_REMEDY)]
ModelName = Annotated[
    str,
    Matching(
        _MODEL,
        253,
        "is not the name of one model",
        "use letters, digits and . _ : / + -, starting with a letter or digit; a version has its own field",
    ),
]
ModelMatch = Annotated[
    str,
    Matching(
        rf"{_MODEL}\*?|\*",
        253,
        "is neither a model's name nor a prefix",
        "write a name, or the start of one followed by a single *",
    ),
]
Version = Annotated[
    str, Matching(r"[A-Za-z0-9][A-Za-z0-9._+-]*", 63, "is not a version", "use letters, digits and . _ + -")
]
ServedName = Annotated[
    str,
    Matching(
        rf"[{_SERVED}]([ {_SERVED}]*[{_SERVED}])?",
        512,
        "holds a character that cannot be sent as a model's name",
        'use printable ASCII without " \\ ; =',
    ),
]
BasePath = Annotated[
    str,
    Matching(
        rf"/|(/{_SEGMENT})+",
        256,
        "is not a base path",
        "start it with / and do not end it with one; no //, no .., no query",
        without="..",
    ),
]
UrlPath = Annotated[
    str, Matching(rf"(/{_SEGMENT})*/?", 256, "is not a path", "start it with /; no //, no .., no query", without="..")
]
HeaderName = Annotated[
    str,
    Matching(
        r"[a-z0-9][a-z0-9_-]*", 128, "is not a header's name in lower case", "use lower case letters, digits, - and _"
    ),
]
HeaderValue = Annotated[
    str,
    Matching(r"[!-~]([ -~]*[!-~])?", 256, "is not a header's value", "use printable ASCII, no space at either end"),
]
SeriesLabel = Annotated[
    str, Matching(r"[A-Za-z_][A-Za-z0-9_]*", 128, "is not a label's name in Prometheus", "use letters, digits and _")
]
SeriesValue = Annotated[
    str, Matching(r"[!-~]([ -~]*[!-~])?", 256, "is not a label's value", "use printable ASCII, no space at either end")
]
SeriesName = Annotated[
    str, Matching(r"[A-Za-z_:][A-Za-z0-9_:]*", 200, "is not a metric's name", "use letters, digits, _ and :")
]
Promql = Annotated[
    str, Matching(r"[ -~\n\t]*[!-~][ -~\n\t]*", 2048, "is not a query", "write PromQL in printable ASCII")
]
