# SPDX-License-Identifier: Apache-2.0
"""Where an API server is, and how connections to it prove who is at either end.

Rules:
    1. A value; the library that reads kubeconfigs is loaded by nobody who needs none: it takes
       more memory than all else here.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, Self

__all__ = ("ApiServer",)


@dataclass(frozen=True, slots=True)
class ApiServer:
    """An API server.

    Attributes:
        host: Its URL.
        ssl_ca_cert: File of its CA; None with `ca_cert_data`, or for the system's.
        ca_cert_data: Its CA, PEM.
        cert_file: Our client certificate, if we have one.
        key_file: The key for it.
        tls_server_name: The name to verify, where it is not the URL's.
        proxy: That connections go through, if any.
        verify_ssl: Whether it is verified at all.
    """

    host: str
    ssl_ca_cert: str | None = None
    ca_cert_data: str | bytes | None = field(default=None, repr=False)
    cert_file: str | None = None
    key_file: str | None = None
    tls_server_name: str | None = None
    proxy: str | None = None
    verify_ssl: bool = True

    @classmethod
    def of(cls, configuration: Any) -> Self:
        """Take what the `kubernetes` package has read from a kubeconfig."""
        return cls(**{each.name: getattr(configuration, each.name) for each in fields(cls)})

    def anonymous(self) -> ApiServer:
        """The same one, for connections without a certificate of ours."""
        return replace(self, cert_file=None, key_file=None)

    def context(self) -> ssl.SSLContext:
        """Settings of a new pool of connections.

        Raises:
            OSError: No such file, or no certificate in it.
        """
        context = ssl.create_default_context(cafile=self.ssl_ca_cert, cadata=self.ca_cert_data)
        # Clusters whose certificates lack a key identifier are common; Python 3.13 refuses these.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if self.cert_file:
            context.load_cert_chain(self.cert_file, keyfile=self.key_file)
        return context
