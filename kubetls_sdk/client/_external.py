# SPDX-License-Identifier: Apache-2.0
"""What the clients for the public internet share: their options, their trust, their transport.

Rules:
    1. Nothing of ours is presented: the TLS context is its own and takes no certificate.
    2. Only the roots that were asked for, and host names as on the web. The environment has no
       say, but in where the system's roots are.
    3. `https` only, redirects included.
"""

from __future__ import annotations

import importlib
import os
import ssl
from typing import TYPE_CHECKING, Any, NoReturn

from kubetls_sdk.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

__all__ = ("ExternalContext", "ExternalSetup")

_OURS = "it is about identities, which this client neither has nor verifies; use Client"
_REFUSED = {
    "server": _OURS,
    "servers": _OURS,
    "service_names": _OURS,
    "source": _OURS,
    "verify": "web_roots=True or roots= says who is trusted",
    "cert": "no certificate is presented to the outside",
    "transport": "a transport of its own would choose trust by other means",
    "mounts": "a mounted transport would choose trust by other means",
    "trust_env": "proxies and certificates of the environment are never used",
}
_OF_TRANSPORT = ("http1", "http2", "limits")


class ExternalContext(ssl.SSLContext):
    """A client's TLS context without a certificate, now and later."""

    @classmethod
    def build(cls, roots: str | os.PathLike[str] | None) -> ExternalContext:
        """Make one.

        Args:
            roots: PEM file of the roots to trust; None for the web's: certifi's when it is
                installed, else the system's.

        Raises:
            ConfigurationError: The file cannot be used, or has no certificate.
        """
        context = cls(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        path = _web_roots() if roots is None else os.fspath(roots)
        if path is None:
            context.set_default_verify_paths()
            return context
        try:
            context.load_verify_locations(path)
        except (OSError, ssl.SSLError) as err:
            why = err.strerror if type(err) is not ssl.SSLError and err.strerror else "no PEM roots"
            raise ConfigurationError(f"expected a PEM file of roots, got {path!r}: {why}") from err
        return context

    def load_cert_chain(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse.

        Raises:
            ConfigurationError: Always.
        """
        raise ConfigurationError("expected no certificate: none is presented to the outside")


class ExternalSetup:
    """The checked arguments of one client.

    Args:
        library: `httpx` or `httpx2`.
        web_roots: Whether to trust the web's roots.
        roots: PEM file of the roots to trust instead.
        options: What else the client was given; goes to the library.

    Raises:
        ConfigurationError: Contradictory, missing or refused arguments.
    """

    def __init__(
        self,
        library: ModuleType,
        *,
        web_roots: bool,
        roots: str | os.PathLike[str] | None,
        options: dict[str, Any],
    ) -> None:
        _check(library, options)
        if not isinstance(web_roots, bool) or web_roots is (roots is not None):
            raise ConfigurationError(
                f"expected either web_roots=True or roots=FILE, got {web_roots!r} and {roots!r}"
            )
        self._library = library
        context = ExternalContext.build(roots)
        of_transport = {key: options.pop(key) for key in _OF_TRANSPORT if key in options}
        proxy = _proxy(library, options.pop("proxy", None), context)
        self._settings = {"verify": context, "proxy": proxy, "trust_env": False, **of_transport}
        self.options = {key: value for key, value in options.items() if key not in _REFUSED}

    def sync_transport(self) -> Any:
        """Make the transport of a sync client."""
        library = self._library
        kind = type("ExternalTransport", (_HttpsOnly, library.HTTPTransport), {"library": library})
        return kind(**self._settings)

    def async_transport(self) -> Any:
        """Make the transport of an async client."""
        library = self._library
        bases = (_AsyncHttpsOnly, library.AsyncHTTPTransport)
        return type("AsyncExternalTransport", bases, {"library": library})(**self._settings)


class _HttpsOnly:
    library: ModuleType

    def handle_request(self, request: Any) -> Any:
        """Send a request, unless it would go in the clear."""
        _require_https(self.library, request)
        return super().handle_request(request)  # type: ignore[misc]


class _AsyncHttpsOnly:
    library: ModuleType

    async def handle_async_request(self, request: Any) -> Any:
        """Send a request, unless it would go in the clear."""
        _require_https(self.library, request)
        return await super().handle_async_request(request)  # type: ignore[misc]


def _require_https(library: ModuleType, request: Any) -> None:
    if request.url.scheme != "https":
        raise library.UnsupportedProtocol(
            f"expected an https URL, got {request.url.scheme!r}", request=request
        )


def _check(library: ModuleType, options: Mapping[str, Any]) -> None:
    for name, reason in _REFUSED.items():
        value = options.get(name)
        if value is not None and not (name in ("trust_env", "service_names") and value is False):
            raise ConfigurationError(f"expected no {name}=, got one: {reason}")
    base = library.URL(options.get("base_url") or "")
    if base.scheme not in ("", "https"):
        raise ConfigurationError(f"expected an https base_url, got {str(base)!r}")


def _proxy(library: ModuleType, proxy: Any, context: ssl.SSLContext) -> Any:
    """A proxy only carries what is encrypted; one that is spoken to over TLS is trusted alike."""
    if proxy is None:
        return None
    if isinstance(proxy, library.Proxy):
        if proxy.ssl_context is not None:
            raise ConfigurationError("expected a proxy without a TLS context of its own")
        made = proxy
    else:
        made = library.Proxy(proxy)
    if made.url.scheme != "https":
        return made
    return library.Proxy(made.url, auth=made.auth, headers=made.headers, ssl_context=context)


def _web_roots() -> str | None:
    try:
        certifi: Any = importlib.import_module("certifi")
    except ImportError:
        return None
    return str(certifi.where())
