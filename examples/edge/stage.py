# SPDX-License-Identifier: Apache-2.0
"""The whole picture, running.

Rules:
    1. Whatever happens, also Ctrl-C, no process stays behind and no key stays on the disk.
"""

from __future__ import annotations

import socket
import tempfile
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from examples.demonstration.child import Child, DemoError
from examples.edge.login import AUDIENCE, ISSUER
from examples.edge.service import Api, Place, program, served
from examples.edge.visitor import Visitor
from examples.edge.zones import Zones

if TYPE_CHECKING:
    from collections.abc import Iterator

    from examples.demonstration.screen import Screen

__all__ = ("Stage", "stage")


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything that runs.

    Attributes:
        place: Where.
        zones: Who trusts whom.
        internal: Our API for workloads.
        external: Our API for the public.
        login: The login service, of the outside.
        bundle_url: Where the partner publishes its bundle.
    """

    place: Place
    zones: Zones
    internal: Api
    external: Api
    login: Child
    bundle_url: str

    @property
    def login_port(self) -> int:
        """Where the login service listens."""
        return served(self.login)

    @property
    def edge_port(self) -> int:
        """The outside face of the external API."""
        return self.external.public_port

    @property
    def url(self) -> str:
        """What to open in a browser."""
        return f"https://localhost:{self.edge_port}/"

    @property
    def internal_url(self) -> str:
        """Where workloads call."""
        return f"https://127.0.0.1:{self.internal.port}"

    def visitor(self) -> Visitor:
        """Somebody outside."""
        return Visitor(self.edge_port, self.zones.public.roots)


@contextmanager
def stage(place: Place, screen: Screen, port: int) -> Iterator[Stage]:
    """Set everything up, and end it afterwards.

    Args:
        place: Its `keys` are in a new directory below the given one.
        screen: Shows what goes on.
        port: Of the outside face; 0 takes a free one.

    Raises:
        DemoError: A process does not start.
    """
    _check_free(port)
    with ExitStack() as stack:
        screen.step("Making three trust domains, a volume for each workload, and a public CA")
        keys = stack.enter_context(tempfile.TemporaryDirectory(prefix="kubetls-edge-"))
        here = replace(place, keys=Path(keys))
        zones = Zones(here.keys)
        screen.step("Starting the login service, and the endpoint where the partner publishes")
        login, bundles = _outsiders(here, zones)
        stack.callback(login.end)
        stack.callback(bundles.end)
        bundle_url = f"https://127.0.0.1:{served(bundles)}/"
        zones.declare_partners(bundle_url)
        _write_users(here, zones, served(login))
        screen.step("Starting the internal and the external API under `kubetls serve`")
        internal = stack.enter_context(closing(_internal(here, zones)))
        external = stack.enter_context(closing(_external(here, zones, internal, login, port)))
        external.port  # noqa: B018 - waits until it is ready
        yield Stage(here, zones, internal, external, login, bundle_url)


def _check_free(port: int) -> None:
    """Say it before anything starts: what a server's log says later is harder to find."""
    try:
        if port:
            socket.create_server(("127.0.0.1", port)).close()
    except OSError as err:
        raise DemoError(
            f"port {port} is taken or not allowed ({err.strerror}); choose another one with --port"
            " (make demo-edge SERVE=1 PORT=9443), 0 for any"
        ) from err


def _outsiders(place: Place, zones: Zones) -> tuple[Child, Child]:
    public, invited = zones.public, place.keys / "invited.pem"
    invited.write_bytes(public.roots.read_bytes() + zones.ours.bundle.to_pem())
    files = (public.login.certificate, public.login.key, invited)
    login = program("login", [str(file) for file in files], log=place.logs / "login.log")
    serve = ("bundle", "serve", "--profile", "https_spiffe", "--host", "127.0.0.1", "--port", "0")
    bundles = Child(
        "the partner's bundle endpoint",
        [*place.kubetls, *serve],
        log=place.logs / "bundles.log",
        environment={"KUBETLS_DIR": str(zones.volume("bundles"))},
    )
    return login, bundles


def _write_users(place: Place, zones: Zones, login_port: int) -> None:
    """Both APIs take the tokens of the login service."""
    url = f"https://localhost:{login_port}/jwks.json"
    keys = {"url": url, "caBundle": str(zones.public.roots)}
    issuer = {"issuer": ISSUER, "audiences": AUDIENCE, "keys": keys}
    document = {"version": 1, "issuers": [issuer]}
    (place.keys / "users.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")


def _internal(place: Place, zones: Zones) -> Api:
    options = ("--federation", str(zones.federation_file))
    return Api("internal", place, zones.volume("internal-api"), options=options)


def _external(place: Place, zones: Zones, internal: Api, login: Child, port: int) -> Api:
    edge = zones.public.edge
    options = (
        *("--edge-host", "127.0.0.1", "--edge-port", str(port)),
        *("--edge-certificate", str(edge.certificate), "--edge-key", str(edge.key)),
    )
    variables = {
        "EDGE_INTERNAL_URL": f"https://127.0.0.1:{internal.port}",
        "EDGE_LOGIN_URL": f"https://localhost:{served(login)}",
        "EDGE_ROOTS": str(zones.public.roots),
        "EDGE_OUTSIDE": str(place.audit("external")),
        "EDGE_INSIDE": str(place.audit("internal")),
    }
    volume = zones.volume("external-api")
    return Api("external", place, volume, options=options, variables=variables)
