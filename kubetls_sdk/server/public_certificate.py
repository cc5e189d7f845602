# SPDX-License-Identifier: Apache-2.0
"""An ordinary server certificate in two PEM files, followed while the server runs.

Rules:
    1. Certificate and key are loaded into a context of its own together; a pair that does not fit
       keeps the last good one, with one line in the log.
    2. No client certificate is asked for, and no trust bundle is loaded.
    3. A certificate with a SPIFFE ID is none for the public: it would show who we are inside.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from cryptography import x509

from kubetls_sdk._profile import MALFORMED
from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.server.refusal_log import log

__all__ = ("PublicCertificate",)


class PublicCertificate:
    """The certificate of a public listener.

    Args:
        certificate: Path of the PEM chain, leaf first.
        key: Path of the PEM key, not encrypted.
        alpn_protocols: Application protocols by preference.

    Attributes:
        context: The settings for a connection that is made now.

    Raises:
        ConfigurationError: The files cannot be used.
    """

    def __init__(self, certificate: str, key: str, *, alpn_protocols: list[str]) -> None:
        self._paths = (certificate, key)
        self._alpn_protocols = alpn_protocols
        self._complaint = ""
        self._content = self._read()
        self.context = self._build(self._content)

    def reload(self) -> None:
        """Look at the files, and take what changed; blocks for a few milliseconds."""
        try:
            content = self._read()
            if content != self._content:
                self.context, self._content = self._build(content), content
                log.info("the public certificate was reloaded")
            self._complaint = ""
        except ConfigurationError as err:
            if str(err) != self._complaint:
                log.error("the public certificate stays as it was: %s", err)
            self._complaint = str(err)

    def _read(self) -> tuple[bytes, ...]:
        try:
            return tuple(Path(path).read_bytes() for path in self._paths)
        except OSError as err:
            raise ConfigurationError(
                f"expected a readable certificate and key, got {err.filename}: {err.strerror}"
            ) from err

    def _build(self, content: tuple[bytes, ...]) -> ssl.SSLContext:
        _check_public(content[0], self._paths[0])
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        context.set_alpn_protocols(self._alpn_protocols)
        certificate, key = self._paths
        try:
            context.load_cert_chain(certificate, key, password=_refuse_encrypted)
        except (ssl.SSLError, ValueError, OSError) as err:
            reason = getattr(err, "reason", None) or str(err)
            raise ConfigurationError(
                f"expected a certificate and its key, got {certificate!r} and {key!r}: {reason}"
            ) from err
        if self._read() != content:  # what was loaded is not what was looked at
            raise ConfigurationError(f"{certificate!r} changed while it was read")
        return context


def _check_public(pem: bytes, path: str) -> None:
    try:
        leaf = x509.load_pem_x509_certificate(pem)
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except (x509.ExtensionNotFound, *MALFORMED):
        return  # OpenSSL says what is wrong with it, if anything is
    if any(uri.lower().startswith("spiffe:") for uri in uris):
        raise ConfigurationError(
            f"expected a certificate of the web PKI in {path!r}, got one with a SPIFFE ID: it is"
            " for the inside"
        )


def _refuse_encrypted() -> str:
    raise ValueError("the key is encrypted")
