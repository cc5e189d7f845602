# SPDX-License-Identifier: Apache-2.0
"""Operands: checked against the attribute's type when a condition is parsed.

Rules:
    1. Claims and resource attributes have the type of their value, known only at the request.
    2. Path variables, headers and hosts are text; ports are numbers; addresses are compared with
       CIDR blocks; times with RFC 3339 instants, `HH:MM` clocks or names of weekdays, in UTC.
"""

from __future__ import annotations

import ipaddress
import re
from datetime import datetime, time
from typing import TYPE_CHECKING, Any

from kubetls_sdk.authz.attribute import WEEKDAYS, Attribute, Network, host_only
from kubetls_sdk.authz.condition import Operator
from kubetls_sdk.authz.details import PSEUDO_METHODS
from kubetls_sdk.exceptions import ConfigurationError, SpiffeIdError
from kubetls_sdk.spiffe_id import SpiffeId, TrustDomain

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ("FIXED_TYPES", "convert")

_EQUALITY = frozenset({Operator.EQUAL, Operator.NOT_EQUAL})
_MEMBERSHIP = frozenset({Operator.IN, Operator.NOT_IN})
_ORDER = frozenset({Operator.LESS, Operator.AT_MOST, Operator.GREATER, Operator.AT_LEAST})
_AFFIX = frozenset({Operator.STARTS_WITH, Operator.ENDS_WITH})
_LISTS = frozenset({Operator.CONTAINS, Operator.NOT_CONTAINS})
_METHOD = re.compile(r"[A-Z]{1,32}", re.ASCII)
_CLOCK = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])", re.ASCII)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ConfigurationError(f"expected a quoted text, got {value!r}")
    return value


def _host(value: Any) -> str:
    host = host_only(_text(value))
    if host != value.lower().removesuffix(".") or not host:
        raise ConfigurationError(f"expected a host without port, got {value!r}")
    return host


def _port(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 65535:
        raise ConfigurationError(f"expected a port from 1 to 65535, got {value!r}")
    return value


def _network(value: Any) -> Network:
    try:
        block = ipaddress.ip_network(_text(value))
    except ValueError as err:
        raise ConfigurationError(f"expected a CIDR block or address ({err})") from None
    if getattr(block.network_address, "ipv4_mapped", None) is not None:
        raise ConfigurationError(f"expected an IPv4 block as IPv4, got {value!r}")
    return Network(block)


def _method(value: Any) -> str:
    if value not in PSEUDO_METHODS and not _METHOD.fullmatch(_text(value)):
        raise ConfigurationError(f"expected an HTTP method in upper case, got {value!r}")
    return _text(value)


def _spiffe_id(value: Any) -> str:
    try:
        return str(SpiffeId.parse(_text(value)))
    except SpiffeIdError as err:
        raise ConfigurationError(str(err)) from err


def _trust_domain(value: Any) -> str:
    try:
        return str(TrustDomain.parse(_text(value)))
    except SpiffeIdError as err:
        raise ConfigurationError(str(err)) from err


def _instant(value: Any) -> datetime:
    try:
        moment = datetime.fromisoformat(_text(value))
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ConfigurationError(f"expected an instant like '2026-12-31T18:00:00Z', got {value!r}")
    return moment


def _clock(value: Any) -> time:
    match = _CLOCK.fullmatch(_text(value))
    if match is None:
        raise ConfigurationError(f"expected a UTC time of day like '08:30', got {value!r}")
    return time(int(match[1]), int(match[2]))


def _weekday(value: Any) -> str:
    if value not in WEEKDAYS:
        raise ConfigurationError(f"expected one of {', '.join(WEEKDAYS)}, got {value!r}")
    return _text(value)


FIXED_TYPES: Mapping[str, tuple[Callable[[Any], Any], frozenset[Operator]]] = {
    "source.address": (_network, _EQUALITY | _MEMBERSHIP),
    "request.host": (_host, _EQUALITY | _MEMBERSHIP | _AFFIX),
    "request.port": (_port, _EQUALITY | _MEMBERSHIP),
    "request.method": (_method, _EQUALITY | _MEMBERSHIP),
    "request.path": (_text, _EQUALITY | _MEMBERSHIP | _AFFIX),
    "forwarded.spiffeId": (_spiffe_id, _EQUALITY | _MEMBERSHIP),
    "forwarded.trustDomain": (_trust_domain, _EQUALITY | _MEMBERSHIP),
    "time.now": (_instant, _ORDER),
    "time.clock": (_clock, _ORDER),
    "time.weekday": (_weekday, _EQUALITY | _MEMBERSHIP),
}
_TEXT_TYPE = (_text, _EQUALITY | _MEMBERSHIP | _AFFIX)


def convert(attribute: Attribute, operator: Operator, operand: Any, text: str) -> Any:
    """Check an operand against attribute and operator, and turn it into its type.

    Raises:
        ConfigurationError: They do not fit.
    """
    is_list = isinstance(operand, tuple)
    if isinstance(operand, Attribute):
        return _reference(attribute, operator, operand, text)
    if is_list is not (operator in _MEMBERSHIP) and str(attribute) != "source.address":
        raise ConfigurationError(
            f"expected a list after 'in' and one value after other operators, got {text!r}"
        )
    if is_list and not operand:
        raise ConfigurationError(f"expected a list with at least one value, got {text!r}")
    if attribute.root in ("user", "resource"):
        return _dynamic(operator, operand, text)
    parse, operators = FIXED_TYPES.get(str(attribute), _TEXT_TYPE)
    if operator not in operators:
        known = ", ".join(sorted(operator.value for operator in operators))
        raise ConfigurationError(f"expected one of the operators {known}, got {text!r}")
    return tuple(parse(item) for item in operand) if is_list else parse(operand)


def _dynamic(operator: Operator, operand: Any, text: str) -> Any:
    if operator in _ORDER and isinstance(operand, bool | str):
        raise ConfigurationError(f"expected a number after {operator.value!r}, got {text!r}")
    if operator in _AFFIX and not isinstance(operand, str):
        raise ConfigurationError(f"expected a text after {operator.value!r}, got {text!r}")
    return operand


def _reference(attribute: Attribute, operator: Operator, operand: Attribute, text: str) -> Any:
    comparable = {"user", "resource", "path", "header"}
    if attribute.root not in comparable or operand.root not in comparable:
        raise ConfigurationError(
            f"expected to compare user, resource, path or header attributes, got {text!r}"
        )
    if operator not in _EQUALITY | _MEMBERSHIP | _LISTS:
        raise ConfigurationError(f"expected ==, !=, in or contains with an attribute, got {text!r}")
    if operator in _MEMBERSHIP and operand.root in ("path", "header"):
        raise ConfigurationError(f"expected a list claim after 'in', got {text!r}")
    if operand == attribute:
        raise ConfigurationError(f"expected two different attributes, got {text!r}")
    return operand
