# SPDX-License-Identifier: Apache-2.0
"""Which version of a kind the API server serves, asked once or followed.

    resource = await await_served(api, CLUSTER_TRUST_BUNDLES, CLUSTER_TRUST_BUNDLES_V1BETA1)

Rules:
    1. The first that is served is taken: name the newest version first.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from webhook.api.errors import ApiError
from webhook.exceptions import WebhookError

if TYPE_CHECKING:
    from webhook.api.client import Api
    from webhook.api.resources import Resource

__all__ = ("await_served", "end_when_served_changes", "first_served")

_log = logging.getLogger(__name__)

_RETRY_SECONDS: Final = 1.0
_LOOK_SECONDS: Final = 60.0


async def first_served(api: Api, *resources: Resource) -> Resource | None:
    """Ask which of these the API server serves; None: none of them.

    Raises:
        ApiError: It did not answer.
    """
    for resource in resources:
        if await api.serves(resource):
            return resource
    return None


async def await_served(api: Api, *resources: Resource) -> Resource | None:
    """Ask the same, however long the API server takes to answer."""
    while True:
        try:
            return await first_served(api, *resources)
        except ApiError as err:
            _log.warning("the API server cannot be asked what it serves: %s", err)
            await asyncio.sleep(_RETRY_SECONDS)


async def end_when_served_changes(
    api: Api, used: Resource | None, *resources: Resource, seconds: float = _LOOK_SECONDS
) -> None:
    """Fail when another one is served than the one in use: after an upgrade all begins anew.

    Args:
        api: The API server.
        used: What `await_served` said at the start.
        resources: What it was asked for.
        seconds: How often to look.

    Raises:
        WebhookError: Another version is served, or none any more, or one now.
    """
    while True:
        await asyncio.sleep(seconds)
        if await await_served(api, *resources) != used:
            kind = resources[0].kind
            raise WebhookError(f"the API server serves another version of {kind}")
