# SPDX-License-Identifier: Apache-2.0
"""What a cluster lacks for the CSI mode: the driver's registration, and nodes without it.

Rules:
    1. Where no rule has the mode and the driver is not installed, nothing is said.
    2. A node without the driver is a warning: its pods wait, and start when it is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from webhook.api.client import ForbiddenError, NotFoundError
from webhook.api.resources import CSI_DRIVERS, CSI_NODES, NODES
from webhook.config import Mode
from webhook.finding import Finding, Verdict
from webhook.names import CSI_DRIVER
from webhook.node_version import is_windows
from webhook.trust.node_census import has_driver

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from webhook.api.client import Api
    from webhook.config import PlatformConfig

__all__ = ("csi_findings",)

_DRIVER: Final = "CSI driver"
_NODES: Final = "CSI driver on nodes"
_WANTED: Final[Mapping[str, Any]] = {
    "attachRequired": False,
    "podInfoOnMount": True,
    "requiresRepublish": True,
    "volumeLifecycleModes": ["Ephemeral"],
}


async def csi_findings(api: Api, config: PlatformConfig) -> AsyncIterator[Finding]:
    """Look at the driver, as the account that runs it.

    Raises:
        ApiError: The API server did not answer.
    """
    try:
        driver = await api.get(CSI_DRIVERS, CSI_DRIVER)
    except NotFoundError:
        if any(Mode.CSI in rule.modes for rule in config.rules):
            yield _missing(config)
        return
    except ForbiddenError as err:
        yield Finding(Verdict.WARNING, _DRIVER, f"not looked at: {err}")
        return
    yield _registration(driver.get("spec") or {})
    yield await _on_nodes(api)


def _missing(config: PlatformConfig) -> Finding:
    if any(rule.modes == (Mode.CSI,) for rule in config.rules):
        return Finding(
            Verdict.FAILURE,
            _DRIVER,
            "not installed, and there are namespaces with the mode csi only: set csi.enabled, or"
            " list another mode for them",
        )
    return Finding(Verdict.WARNING, _DRIVER, "not installed: pods get another mode of their rule")


def _registration(spec: Mapping[str, Any]) -> Finding:
    wrong = [name for name, value in _WANTED.items() if spec.get(name) != value]
    requests = spec.get("tokenRequests") or []
    if len(requests) != 1:
        wrong.append("tokenRequests")
    if wrong:
        message = f"registered otherwise than the chart does it: {', '.join(wrong)}"
        return Finding(Verdict.FAILURE, _DRIVER, message)
    audience = requests[0].get("audience")
    whose = f"audience {audience!r}" if audience else "the API server's own audience"
    return Finding(Verdict.OK, _DRIVER, f"registered, with pods' tokens for {whose}")


async def _on_nodes(api: Api) -> Finding:
    try:
        nodes = (await api.list(NODES)).items
        registered = (await api.list(CSI_NODES)).items
    except ForbiddenError as err:
        return Finding(Verdict.WARNING, _NODES, f"not looked at: {err}")
    served = {node["metadata"]["name"] for node in registered if has_driver(node)}
    names = {node["metadata"]["name"] for node in nodes if not is_windows(node)}
    if missing := sorted(names - served):
        return Finding(
            Verdict.WARNING, _NODES, f"missing, so that pods wait there: {', '.join(missing)}"
        )
    return Finding(Verdict.OK, _NODES, f"registered on all {len(names)}")
