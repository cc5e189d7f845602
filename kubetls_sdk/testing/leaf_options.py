# SPDX-License-Identifier: Apache-2.0
"""What may be chosen about a leaf that is issued."""

from __future__ import annotations

from typing import TYPE_CHECKING, NotRequired, TypedDict

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from kubetls_sdk.testing.authority import Authority
    from kubetls_sdk.testing.keys import KeyType

__all__ = ("LeafOptions",)


class LeafOptions(TypedDict):
    """The keyword arguments of every `issue…` method; each may be left out.

    Attributes:
        dns_names: DNS SANs; none by default.
        common_name: Subject CN, 1 to 64 characters; the end of the path by default.
        ttl: Lifetime from now, or from `not_before`; one hour by default. Negative: expired.
        not_before: Aware start of validity; a minute ago by default.
        key_type: Of the leaf; P-256 by default.
        intermediates: How many fresh intermediates stand between the root and the leaf.
        through: The authority that signs, in place of the active root.
    """

    dns_names: NotRequired[Sequence[str]]
    common_name: NotRequired[str | None]
    ttl: NotRequired[timedelta]
    not_before: NotRequired[datetime | None]
    key_type: NotRequired[KeyType]
    intermediates: NotRequired[int]
    through: NotRequired[Authority | None]
