# SPDX-License-Identifier: Apache-2.0
"""A gRPC service config as xDS says it, since a channel that is configured by xDS takes no other.

Rules:
    1. What cannot be said in xDS is refused when the channel is made, never dropped silently.
    2. The most specific entry of a method wins, as in gRPC.

Spec: gRPC Service Config; gRFC A6 and A44 (retries), A31 (timeouts), A42 and A48 (policies).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from kubetls_sdk.client.xds.protobuf import Value, message
from kubetls_sdk.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ("PICK_FIRST", "ROUND_ROBIN", "ServiceConfig")

PICK_FIRST, ROUND_ROBIN = "pick_first", "round_robin"
_RETRYABLE = {
    "CANCELLED": "cancelled",
    "DEADLINE_EXCEEDED": "deadline-exceeded",
    "INTERNAL": "internal",
    "RESOURCE_EXHAUSTED": "resource-exhausted",
    "UNAVAILABLE": "unavailable",
}
_BY_NUMBER = {1: "CANCELLED", 4: "DEADLINE_EXCEEDED", 8: "RESOURCE_EXHAUSTED", 13: "INTERNAL"}
_BY_NUMBER |= {14: "UNAVAILABLE"}
_RETRY_FIELDS = {
    "maxAttempts", "initialBackoff", "maxBackoff", "backoffMultiplier", "retryableStatusCodes",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """The parts of a service config that channels of ours have.

    Attributes:
        routes: Encoded fields of a route action for each path or path prefix, most specific first;
            the last one is for everything.
        policy: Of load balancing.
    """

    routes: tuple[tuple[dict[int, Value], dict[int, Value]], ...]
    policy: str

    @classmethod
    def of(cls, options: Iterable[tuple[str, Any]]) -> ServiceConfig:
        """Read the options of a channel.

        Raises:
            ConfigurationError: A setting that xDS does not know.
        """
        given = dict(options)
        document = _document(given.get("grpc.service_config"))
        policy = _policy(document, given.get("grpc.lb_policy_name"))
        entries = [
            (_match(name), _action(entry))
            for entry in document.pop("methodConfig", [])
            for name in entry.pop("name", [])
        ]
        if document:
            raise _unknown(document)
        entries.sort(key=lambda entry: entry[0][0])
        routes = tuple((match, action) for (_, match), action in entries)
        return cls((*routes, ({1: ""}, {})), policy)


def _document(text: Any) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        document = json.loads(text)
    except ValueError as err:
        raise ConfigurationError(f"expected JSON as grpc.service_config: {err}") from err
    if not isinstance(document, dict):
        raise ConfigurationError("expected a JSON object as grpc.service_config")
    return document


def _policy(document: dict[str, Any], by_option: Any) -> str:
    configured = document.pop("loadBalancingConfig", None)
    named = document.pop("loadBalancingPolicy", None)
    policy = by_option or named or PICK_FIRST
    if configured:
        policy = next((name for item in configured for name in item if name in _POLICIES), None)
    if isinstance(policy, bytes):
        policy = policy.decode()
    found = _POLICIES.get(str(policy).lower())
    if found is None:
        raise ConfigurationError(
            f"expected pick_first or round_robin, got {by_option or configured or named!r}"
        )
    return found


_POLICIES = {PICK_FIRST: PICK_FIRST, ROUND_ROBIN: ROUND_ROBIN}


def _match(name: dict[str, Any]) -> tuple[int, dict[int, Value]]:
    service, method = name.get("service", ""), name.get("method", "")
    if service and method:
        return 0, {2: f"/{service}/{method}"}
    return (1, {1: f"/{service}/"}) if service else (2, {1: ""})


def _action(entry: dict[str, Any]) -> dict[int, Value]:
    rest = dict(entry)
    action: dict[int, Value] = {}
    retry, timeout = rest.pop("retryPolicy", None), rest.pop("timeout", None)
    if retry is not None:
        action[9] = _retry_policy(retry)
    if timeout is not None:
        action[36] = message({1: _duration(timeout)})
    if rest:
        raise _unknown(rest)
    return action


def _retry_policy(retry: dict[str, Any]) -> bytes:
    if set(retry) - _RETRY_FIELDS:
        raise _unknown(set(retry) - _RETRY_FIELDS)
    attempts = retry.get("maxAttempts", 0)
    if not isinstance(attempts, int) or attempts < 2:
        raise ConfigurationError(f"expected maxAttempts of 2 or more, got {attempts!r}")
    if retry.get("backoffMultiplier", 2) != 2:
        raise ConfigurationError(
            f"expected a backoffMultiplier of 2, as xDS has it, got {retry['backoffMultiplier']!r}"
        )
    backoff: dict[int, Value] = {1: _duration(retry.get("initialBackoff", "1s"))}
    if "maxBackoff" in retry:
        backoff[2] = _duration(retry["maxBackoff"])
    codes = ",".join(_retryable(code) for code in retry.get("retryableStatusCodes", []))
    return message({1: codes, 2: message({1: attempts - 1}), 8: message(backoff)})


def _retryable(code: Any) -> str:
    name = _BY_NUMBER.get(code, code) if isinstance(code, int) else str(code).upper()
    if name not in _RETRYABLE:
        raise ConfigurationError(
            f"expected retryable status codes of {', '.join(_RETRYABLE)}, got {code!r}"
        )
    return _RETRYABLE[name]


def _duration(text: Any) -> bytes:
    try:
        seconds = Decimal(str(text).removesuffix("s"))
    except InvalidOperation:
        seconds = Decimal(-1)
    if seconds <= 0 or not str(text).endswith("s"):
        raise ConfigurationError(f"expected a duration such as '0.5s', got {text!r}")
    whole = int(seconds)
    return message({1: whole, 2: int((seconds - whole) * 10**9)})


def _unknown(names: Iterable[str]) -> ConfigurationError:
    return ConfigurationError(
        f"expected retryPolicy, timeout and loadBalancingConfig in grpc.service_config,"
        f" got {', '.join(sorted(names))}"
    )
