# SPDX-License-Identifier: Apache-2.0
"""Where the API server is, how it proves itself, and who we are there.

Rules:
    1. The bound token of a pod is replaced on disk by the kubelet: it is read again each minute,
       and at once when the API server does not accept it. An unreadable file keeps the last one.
    2. The API server is verified by the cluster's CA alone (by the system's, where a kubeconfig
       names none), always; a kubeconfig that turns this off is refused. Proxies and `.netrc` of
       the environment are not for it.
    3. Neither token nor key is in an error or a `repr`.
    4. Somebody else's token never goes with a certificate of ours: the certificate would win.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import yaml

from kubetls_sdk.exceptions import ConfigurationError
from webhook.api.api_server import ApiServer
from webhook.api.errors import InvalidError
from webhook.api.kubeconfig import read_plain

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("Credentials",)

_log = logging.getLogger(__name__)

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_READ_EVERY: Final = 60.0
_BEARER: Final = "BearerToken"
_UNUSABLE: Final = (
    yaml.YAMLError,
    OSError,
    ValueError,
    TypeError,
    AttributeError,
)


class Credentials:
    """The address, the CA and the current token (or client certificate)."""

    def __init__(
        self,
        server: ApiServer,
        *,
        token_file: Path | None = None,
        token: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        _require_verified(server)
        self.server = server
        self._token_file = token_file
        self._clock = clock
        self._authorization = f"Bearer {token}" if token else ""
        self._read_at = float("-inf")
        self._kubeconfig: tuple[Path, str | None] | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.server.host}>"

    @classmethod
    def in_cluster(cls, folder: Path = SERVICE_ACCOUNT) -> Credentials:
        """The pod's own service account.

        Raises:
            ConfigurationError: This is no pod, or it has no service account token.
        """
        host, port = (os.environ.get(f"KUBERNETES_SERVICE_{key}") for key in ("HOST", "PORT"))
        if not host or not port or not (folder / "token").is_file():
            raise ConfigurationError(
                "expected a kubeconfig (set KUBECONFIG), or a pod with a service account token: got"
                " neither"
            )
        address = f"[{host}]" if ":" in host else host
        server = ApiServer(f"https://{address}:{port}", ssl_ca_cert=str(folder / "ca.crt"))
        return cls(server, token_file=folder / "token")

    @classmethod
    async def from_kubeconfig(cls, path: Path, context: str | None = None) -> Credentials:
        """A kubeconfig's context, the current one when none is named.

        Raises:
            ConfigurationError: It cannot be read, or does not verify the API server.
        """
        plain = read_plain(path, context)
        if plain is not None and plain.token_file is not None:
            return cls(plain.server, token_file=plain.token_file)
        server, token = await _load(path, context)
        credentials = cls(server, token=token)
        credentials._kubeconfig = (path, context)
        return credentials

    def anonymous(self) -> Credentials:
        """The same API server, as nobody."""
        return Credentials(self.server.anonymous())

    def with_token(self, token: str) -> Credentials:
        """The same API server, as whoever this token is of.

        Raises:
            ConfigurationError: A client certificate goes with each connection; see `anonymous`.
            InvalidError: It is no token.
        """
        if self.server.cert_file:
            raise ConfigurationError("expected no client certificate beside another's token")
        if not _is_token(token):
            raise InvalidError("expected one bearer token")
        return Credentials(self.server, token=token)

    def headers(self) -> dict[str, str]:
        """A new dict with the Authorization header; empty where a client certificate is used."""
        if self._token_file and self._clock() - self._read_at >= _READ_EVERY:
            self._read_token(self._token_file)
        return {"Authorization": self._authorization} if self._authorization else {}

    async def renew(self) -> bool:
        """Read the token again; return whether it is another one."""
        before = self._authorization
        if self._token_file:
            self._read_token(self._token_file)
        elif self._kubeconfig:
            await self._load_again(*self._kubeconfig)
        return self._authorization != before

    async def _load_again(self, path: Path, context: str | None) -> None:
        try:
            _, token = await _load(path, context)
        except ConfigurationError as error:
            _log.warning("the last token stays: %s", error)
            return
        self._authorization = f"Bearer {token}" if token else ""

    def _read_token(self, path: Path) -> None:
        self._read_at = self._clock()
        try:
            token = path.read_text("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            _log.warning("%s cannot be read (%s): the last token stays", path, type(error).__name__)
            return
        if _is_token(token):
            self._authorization = f"Bearer {token}"
        else:
            _log.warning("expected one token in %s: the last one stays", path)


def _is_token(text: str) -> bool:
    return bool(text) and text.isascii() and text.isprintable() and " " not in text


async def _load(path: Path, context: str | None) -> tuple[ApiServer, str]:
    """The API server of a kubeconfig, and the token for it; empty where it has none."""
    plain = read_plain(path, context)
    if plain is not None and plain.token is not None:
        return plain.server, plain.token
    from kubernetes.aio import config
    from kubernetes.aio.client import Configuration

    configuration = Configuration()
    try:
        await config.load_kube_config(  # type: ignore[no-untyped-call]
            str(path), context, client_configuration=configuration, persist_config=False
        )
    except (config.ConfigException, *_UNUSABLE) as error:
        # Its messages name entries of the file; others' may quote it.
        said = f": {error}" if isinstance(error, config.ConfigException | OSError) else ""
        raise ConfigurationError(f"kubeconfig {path} cannot be used{said}") from None
    authorization = str(configuration.api_key.get(_BEARER) or "").strip()
    return ApiServer.of(configuration), authorization.removeprefix("Bearer ")


def _require_verified(server: ApiServer) -> None:
    """Refuse an API server that anybody could stand in for."""
    url = urlsplit(server.host)
    if not server.verify_ssl:
        raise ConfigurationError("expected a verified API server, got insecure-skip-tls-verify")
    if url.scheme != "https" and not _is_loopback(url.hostname or ""):
        raise ConfigurationError(f"expected https for the API server, got {url.scheme!r}")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
