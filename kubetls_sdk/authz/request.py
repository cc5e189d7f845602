# SPDX-License-Identifier: Apache-2.0
"""One request as the conditions see it: made only when a rule has conditions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kubetls_sdk.authz.details import Details
    from kubetls_sdk.spiffe_id import SpiffeId

__all__ = ("Request",)


@dataclass(frozen=True, slots=True)
class Request:
    """What a condition may look at.

    Attributes:
        caller: The verified peer, None when anonymous.
        method: HTTP method or pseudo-method.
        path: As the application routes on it.
        details: The rest.
        variables: Path variables of the template that matched.
    """

    caller: SpiffeId | None
    method: str
    path: str
    details: Details
    variables: tuple[tuple[str, str], ...] = ()
