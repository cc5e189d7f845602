# SPDX-License-Identifier: Apache-2.0
"""`inject`, `sign`, `secrets` and `node`: the four parts that run in pods of their own."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import click

from webhook.cli.options import PORT, config_option, kubeconfig, log_level, namespace_option
from webhook.names import CSI_DRIVER

__all__ = ("inject", "node", "secrets", "sign")

_PATH = click.Path(path_type=Path)
_host = click.option("--host", default="0.0.0.0", show_default=True, help="Listen here.")  # noqa: S104
_status_port = click.option(
    "--status-port", type=PORT, default=8080, show_default=True, help="Probes and metrics."
)
_identity = click.option(
    "--identity", envvar="POD_NAME", default=socket.gethostname, help="Of this replica."
)


@click.command()
@config_option
@click.option(
    "--capabilities",
    type=_PATH,
    default=Path("/etc/kubetls-capabilities/capabilities.json"),
    show_default=True,
    help="What the cluster can do, as the signer found out; followed, may be absent.",
)
@click.option(
    "--serving",
    type=_PATH,
    default=Path("/run/secrets/serving"),
    show_default=True,
    help="Folder of tls.crt and tls.key; followed.",
)
@click.option("--client-authorities", type=_PATH, help="Ask the API server for a certificate.")
@click.option("--client-name", "client_names", multiple=True, help="Its name; repeatable.")
@click.option("--port", type=PORT, default=8443, show_default=True, help="Reviews, over TLS.")
@_host
@_status_port
@namespace_option
@log_level
def inject(namespace: str, client_names: tuple[str, ...], **settings: Any) -> None:
    """Answer the API server's admission reviews."""
    from webhook.injection.serve import InjectorSettings, run

    asyncio.run(
        run(
            InjectorSettings(
                client_names=frozenset(client_names), excluded=frozenset({namespace}), **settings
            )
        )
    )


@click.command(short_help="Answer requests for certificates.")
@config_option
@click.option(
    "--serving-certificate/--no-serving-certificate",
    default=True,
    show_default=True,
    help="Keep the injector's serving certificate.",
)
@_host
@_status_port
@_identity
@namespace_option
@log_level
def sign(*, serving_certificate: bool, namespace: str, **settings: Any) -> None:
    """Answer requests for certificates; the leader keeps authorities and trust bundles."""
    from webhook.signing.run import SignerSettings, run

    asyncio.run(
        run(
            SignerSettings(
                namespace=namespace,
                kubeconfig=kubeconfig(),
                keeps_serving=serving_certificate,
                **settings,
            )
        )
    )


@click.command(short_help="Give pods their certificates as Secrets.")
@config_option
@_host
@_status_port
@_identity
@namespace_option
@log_level
def secrets(namespace: str, **settings: Any) -> None:
    """Give pods their certificates as Secrets, in namespaces that the platform enables."""
    from webhook.secrets.run import SecretIssuerSettings, run

    asyncio.run(run(SecretIssuerSettings(namespace=namespace, kubeconfig=kubeconfig(), **settings)))


@click.command(short_help="Give pods of a node their certificates as volumes.")
@config_option
@click.option("--node-name", envvar="NODE_NAME", required=True, help="Of the node.")
@click.option(
    "--endpoint",
    type=_PATH,
    show_default=f"plugins/{CSI_DRIVER}/csi.sock in the kubelet's folder",
    help="The UNIX socket that the kubelet calls, by the path that it sees.",
)
@click.option(
    "--kubelet-folder",
    type=_PATH,
    default=Path("/var/lib/kubelet"),
    show_default=True,
    help="The kubelet's folder, in which pods' volumes are.",
)
@click.option(
    "--registration",
    show_default="plugins_registry in the kubelet's folder",
    help="The folder in which the kubelet finds plugins; `none`: a registrar is beside us.",
)
@click.option(
    "--state-folder",
    "state",
    type=_PATH,
    default=Path("/var/lib/kubetls"),
    show_default=True,
    help="A folder of ours, for volumes and what is known of them.",
)
@click.option(
    "--placement",
    type=click.Choice(["tmpfs", "folders"]),
    default="tmpfs",
    show_default=True,
    help="`folders`, for development without privileges, writes keys to the disk.",
)
@click.option(
    "--token-audience",
    default="",
    help="Audience of the pods' tokens, one of the API server's; its own when empty.",
)
@_host
@_status_port
@namespace_option
@log_level
def node(
    namespace: str,
    kubelet_folder: Path,
    endpoint: Path | None,
    registration: str | None,
    **settings: Any,
) -> None:
    """Give pods of this node their certificates as a CSI volume, with keys that are made here."""
    from webhook.node.run import NodeSettings, run

    registry = Path(registration) if registration else kubelet_folder / "plugins_registry"
    asyncio.run(
        run(
            NodeSettings(
                namespace=namespace,
                kubeconfig=kubeconfig(),
                kubelet_folder=kubelet_folder,
                endpoint=endpoint or kubelet_folder / "plugins" / CSI_DRIVER / "csi.sock",
                registration=None if registration == "none" else registry,
                **settings,
            )
        )
    )
