# SPDX-License-Identifier: Apache-2.0
"""The kinds of trust stores that are known, and one that was found."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ("EMBEDDED", "OTHER", "Kind", "Store", "directory_of", "kind_of")


class Kind(NamedTuple):
    """A kind of trust store.

    Attributes:
        name: Stable.
        used_by: Who believes it.
        redirect: What makes them believe another one.
        remaining: Who still believes it in a pod with the internal trust store; empty: nobody.
    """

    name: str
    used_by: str
    redirect: str
    remaining: str = ""


_OPENSSL = "OpenSSL, Python's ssl, Ruby, PHP, .NET, curl, Go"
_SSL_CERT = "SSL_CERT_FILE and SSL_CERT_DIR (curl also CURL_CA_BUNDLE)"
_ITS_PATH = "programs that open this path by name"
_NSS_USERS = "NSS: Firefox, Chromium, 389-ds"
_P11_KIT = Kind(
    "p11-kit", "GnuTLS, NSS and what update-ca-trust makes of it", "no variable", "GnuTLS and NSS"
)
_NSS = Kind("nss", _NSS_USERS, "no variable", _NSS_USERS)
_BUNDLE = Kind("bundle", _OPENSSL, _SSL_CERT, _ITS_PATH)
_DIRECTORY = Kind("directory", f"{_OPENSSL}; update-ca-certificates", _SSL_CERT, _ITS_PATH)
_SOURCES = _DIRECTORY._replace(remaining="")  # of what is written to /etc/ssl/certs

EMBEDDED = Kind(
    "node", "Node.js, within the program", "NODE_OPTIONS=--use-openssl-ca with SSL_CERT_FILE"
)
OTHER = Kind("other", "whoever opens it", "unknown", "whoever opens it")

_JAVA = Kind("java", "Java", "JAVA_TOOL_OPTIONS=-Djavax.net.ssl.trustStore=FILE", "Java")
_KINDS: tuple[tuple[re.Pattern[str], Kind], ...] = tuple(
    (re.compile(pattern), kind)
    for pattern, kind in (
        (r"/pip/_vendor/certifi/cacert\.pem$", Kind("pip", "pip", "PIP_CERT")),
        (
            r"/certifi/cacert\.pem$",
            Kind(
                "certifi",
                "Python: httpx, requests, aiohttp by choice, and whoever asks certifi",
                "SSL_CERT_FILE (httpx) and REQUESTS_CA_BUNDLE (requests)",
                "code that asks certifi itself, or has trust_env=False",
            ),
        ),
        (r"/botocore/cacert\.pem$", Kind("botocore", "boto3 and the AWS CLI", "AWS_CA_BUNDLE")),
        (
            r"/grpc/_cython/_credentials/roots\.pem$",
            Kind("grpc", "gRPC for Python", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"),
        ),
        (r"/(cacerts|jssecacerts)$|\.(jks|jceks)$", _JAVA),
        (r"\.p11-kit$", _P11_KIT),
        (r"/libnssckbi[^/]*\.so[^/]*$|/cert[89]\.db$", _NSS),
        (r"/bin/(node|nodejs)$|/libnode\.so[^/]*$", EMBEDDED),
        (
            r"/(ca-certificates\.crt|ca-bundle(\.trust)?\.(crt|pem)|tls-ca-bundle\.pem"
            r"|(email|objsign)-ca-bundle\.pem|cacert\.pem|curl-ca-bundle\.crt)$|/ssl/cert\.pem$",
            _BUNDLE,
        ),
    )
)
_REPLACED = re.compile(r"^/etc/(ssl/certs|pki/tls/certs|pki/ca-trust/extracted/pem)(/|$)").match
_DIRECTORIES = re.compile(
    r"(.*/(?:etc/ssl/certs|etc/pki/tls/certs|share/ca-certificates|etc/pki/ca-trust/source"
    r"|share/pki/ca-trust-source|ca-certificates/trust-source|etc/security/cacerts))/"
)


@dataclass(slots=True)
class Store:
    """A trust store in an image.

    Attributes:
        path: In the image.
        kind: What it is.
        links: Other paths that lead to it.
        roots: How many certificates are in it; None when that cannot be told.
        unexpected: How many of them are not among the expected ones; None when it cannot be told.
        problem: Why not, or None.
    """

    path: str
    kind: Kind
    links: list[str]
    roots: int | None
    unexpected: int | None
    problem: str | None = None

    @property
    def remaining(self) -> str:
        """Who still believes it in a pod with the internal trust store; empty: nobody.

        A store at a place over which that one is mounted is not there any more.
        """
        is_hidden = any(_REPLACED(path) for path in (self.path, *self.links))
        return "" if is_hidden else self.kind.remaining

    @property
    def is_clean(self) -> bool:
        """It makes nobody believe what was not expected."""
        return self.unexpected == 0


def kind_of(path: str) -> Kind | None:
    """The kind of a file, by its path."""
    return next((kind for pattern, kind in _KINDS if pattern.search(path)), None)


def directory_of(path: str) -> tuple[str, Kind] | None:
    """The directory store that a file belongs to."""
    found = _DIRECTORIES.match(path)
    if found is None:
        return None
    is_p11_kit = "ca-trust" in found[1] or "trust-source" in found[1]
    is_source = found[1].endswith("/share/ca-certificates")
    return found[1], _P11_KIT if is_p11_kit else _SOURCES if is_source else _DIRECTORY
