# SPDX-License-Identifier: Apache-2.0
"""Kubeconfigs that say all themselves: an address, a CA and a token, as pods and machines have.

Rules:
    1. Whatever else is in one (client certificates, programs that are asked for tokens, proxies,
       TLS that is not verified) is for the `kubernetes` package, as are its error messages. That
       takes more memory than all else that a node's driver loads.

Spec: Kubernetes client configuration, v1 Config.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import yaml

from webhook.api.api_server import ApiServer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ("PlainKubeconfig", "read_plain")

_CLUSTER: Final = {
    "server",
    "certificate-authority",
    "certificate-authority-data",
    "tls-server-name",
}
_USER: Final = {"token", "tokenFile"}
_NOT_PLAIN: Final = (OSError, yaml.YAMLError, LookupError, ValueError, TypeError, AttributeError)


class PlainKubeconfig(NamedTuple):
    """What is in it.

    Attributes:
        server: Whom it is about.
        token: In it, where there is no file.
        token_file: Read again when it changes.
    """

    server: ApiServer
    token: str | None
    token_file: Path | None


def read_plain(path: Path, context: str | None) -> PlainKubeconfig | None:
    """Read a kubeconfig's context, the current one when none is named; None: it is not plain."""
    try:
        config = yaml.safe_load(path.read_text("utf-8"))
        chosen = _named(config["contexts"], context or config["current-context"])["context"]
        cluster = _named(config["clusters"], chosen["cluster"])["cluster"]
        user = _named(config["users"], chosen["user"])["user"]
        return _plain(cluster, user, path.parent)
    except _NOT_PLAIN:
        return None


def _plain(
    cluster: Mapping[str, Any], user: Mapping[str, Any], folder: Path
) -> PlainKubeconfig | None:
    values = [*cluster.values(), *user.values()]
    is_plain = cluster.keys() <= _CLUSTER and len(user) == 1 and user.keys() <= _USER
    if not is_plain or not all(isinstance(each, str) and each for each in values):
        return None
    file, encoded = cluster.get("certificate-authority"), cluster.get("certificate-authority-data")
    server = ApiServer(
        cluster["server"].rstrip("/"),
        ssl_ca_cert=str(folder / file) if file and not encoded else None,
        ca_cert_data=base64.b64decode(encoded, validate=True).decode("ascii") if encoded else None,
        tls_server_name=cluster.get("tls-server-name"),
    )
    token_file = folder / user["tokenFile"] if "tokenFile" in user else None
    return PlainKubeconfig(server, user.get("token", "").strip() or None, token_file)


def _named(entries: Any, name: str) -> Any:
    found = [each for each in entries if each["name"] == name]
    if len(found) != 1:
        raise LookupError(name)
    return found[0]
