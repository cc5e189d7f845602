# SPDX-License-Identifier: Apache-2.0
"""One channel of gRPC's core: for one server, with the key, chain and roots of one generation.

Rules:
    1. A core channel never changes: a new generation is a new core channel.
    2. It shares no connection with any other.
    3. What it holds, key and registered resources, goes when it is closed or forgotten.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
from cryptography.hazmat.primitives.serialization import Encoding

from kubetls_sdk._nobody import nobody_pem
from kubetls_sdk.client.xds.addresses import AddressBook
from kubetls_sdk.client.xds.ads import AdsServer
from kubetls_sdk.client.xds.bootstrap import BOOTSTRAP_OPTION, Material, bootstrap
from kubetls_sdk.client.xds.requirement import Requirement
from kubetls_sdk.client.xds.resources import channel_resources, takes_addresses
from kubetls_sdk.client.xds.service_config import ServiceConfig
from kubetls_sdk.client.xds.target import Target
from kubetls_sdk.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from kubetls_sdk.client.xds.ads import Resource
    from kubetls_sdk.source import Snapshot, Source

__all__ = ("MAX_AGE_SECONDS", "CoreChannel", "Settings")

MAX_AGE_SECONDS = 3600.0
"""A core channel is replaced at this age: the server's certificate may have expired meanwhile."""

_REFUSED = {
    BOOTSTRAP_OPTION: "each channel has a bootstrap of its own",
    "grpc.ssl_target_name_override": "server_id says who the server has to be",
    "grpc.use_local_subchannel_pool": "channels of ours never share a connection",
}
_READ_BY_US = ("grpc.service_config", "grpc.lb_policy_name")


@dataclass(frozen=True, slots=True)
class Settings:
    """What a user asked for.

    Attributes:
        source: Our SVID and whom we trust.
        target: Where the server is.
        requirement: Who it has to prove to be.
        config: Retries, timeouts and load balancing.
        options: For gRPC.
        compression: For gRPC.
    """

    source: Source
    target: Target
    requirement: Requirement
    config: ServiceConfig
    options: tuple[tuple[str, Any], ...]
    compression: Any

    @classmethod
    def of(
        cls,
        target: str,
        source: Source,
        *,
        server_id: object,
        options: Iterable[tuple[str, Any]] | None,
        compression: Any,
    ) -> Settings:
        """Check the arguments of a channel.

        Raises:
            ConfigurationError: One is contradictory or out of range.
            SpiffeIdError: A text is not a SPIFFE ID.
        """
        if not hasattr(os, "memfd_create"):
            raise ConfigurationError("expected Linux: our gRPC channels hand over keys by memfd")
        given = dict(options or ())
        for name, reason in _REFUSED.items():
            if name in given:
                raise ConfigurationError(f"expected no option {name!r}: {reason}")
        parsed = Target.parse(target)
        passed_on = {
            "grpc.default_authority": parsed.authority,
            "grpc.enable_http_proxy": 0,
            **{name: value for name, value in given.items() if name not in _READ_BY_US},
            "grpc.use_local_subchannel_pool": 1,
        }
        return cls(
            source,
            parsed,
            Requirement.of(server_id),
            ServiceConfig.of(given.items()),
            tuple(passed_on.items()),
            compression,
        )

    @property
    def key(self) -> object:
        """Equal for channels that could take each other's place."""
        return (
            id(self.source),
            self.target,
            self.requirement,
            repr((self.config, self.options)),
            self.compression,
        )


class CoreChannel:
    """A channel of gRPC's core.

    Args:
        settings: What was asked for.
        make: `grpc.secure_channel` or `grpc.aio.secure_channel`, given target, credentials and
            options.

    Attributes:
        settings: As given.
        snapshot: The generation that it stands for.
        channel: Of gRPC.
        works: It has answered a call, and did not fail to connect since.
        made_at: On the monotonic clock.
        renew_at: On the monotonic clock.

    Raises:
        NotReadyError: The source has nothing yet.
        SvidError: gRPC cannot use the SVID.
    """

    def __init__(self, settings: Settings, make: Callable[..., Any]) -> None:
        self.settings = settings
        self.snapshot: Snapshot = settings.source.snapshot
        self.works = False
        self.made_at = time.monotonic()
        self.renew_at = self.made_at + MAX_AGE_SECONDS
        self._trust_domain = settings.requirement.trust_domain or self.snapshot.trust_domain
        material = Material.shared(self.snapshot, self._trust_domain)
        registration = _Registration(settings, material)
        self._finalizer = weakref.finalize(self, registration.end)
        credentials = grpc.xds_channel_credentials(grpc.ssl_channel_credentials(nobody_pem()))
        options = (*settings.options, (BOOTSTRAP_OPTION, registration.bootstrap))
        self.channel = make(registration.target, credentials, options, settings.compression)

    def is_current(self, now: float) -> bool:
        """Whether no other core channel should take its place; `now` on the monotonic clock."""
        return self.snapshot is self.settings.source.snapshot and now < self.renew_at

    def may_stay(self, snapshot: Snapshot, now: datetime) -> bool:
        """Whether calls may still use it until that of another generation is connected.

        Not when it does not work, when an authority is gone that the server's certificate may rest
        on, or when our own certificate has expired.
        """
        return self.works and self.is_trusted(snapshot, now)

    def is_trusted(self, snapshot: Snapshot, now: datetime) -> bool:
        """Whether calls that run on it may go on to their end."""
        domain = self.settings.requirement.trust_domain or snapshot.trust_domain
        if domain != self._trust_domain or now > self.snapshot.svid.not_after:
            return False
        before, after = self.snapshot.bundles.get(domain), snapshot.bundles.get(domain)
        if before is after:
            return True
        return (
            before is not None
            and after is not None
            and all(
                authority.public_bytes(Encoding.DER) in after for authority in before.authorities
            )
        )

    def release(self) -> None:
        """Give back what it holds besides the gRPC channel; may be called twice."""
        self._finalizer()


class _Registration:
    """What gRPC's core asks for about one channel."""

    def __init__(self, settings: Settings, material: Material) -> None:
        self._process = _process()
        self._material = material
        self._name = f"kubetls-{next(_numbers)}"
        endpoints = settings.target.endpoints
        self._resources: Mapping[Resource, bytes] = channel_resources(
            self._name, endpoints, settings.requirement.matchers, settings.config
        )
        self._process.ads.put(self._resources)
        if takes_addresses(endpoints, settings.config):
            self._process.addresses.want(self._name, endpoints)
        self.target = f"xds:///{self._name}"
        self.bootstrap = bootstrap(material, self._process.ads.address)

    def end(self) -> None:
        self._material.close()
        self._process.addresses.forget(self._name)
        self._process.ads.forget(self._name)


class _Process:
    """What all channels of one process share."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.ads = AdsServer()
        self.addresses = AddressBook(self.ads)


_numbers = itertools.count(1)
_starting = threading.Lock()
_started: _Process | None = None


def _process() -> _Process:
    global _started  # noqa: PLW0603 - a forked child has another one
    with _starting:
        if _started is None or _started.pid != os.getpid():
            _started = _Process()
        return _started
