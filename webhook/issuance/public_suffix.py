# SPDX-License-Identifier: Apache-2.0
"""Names that could be meant outside of the cluster, which no certificate of ours may bear.

Service `google` in namespace `com` has the short name `google.com`. So a short name is refused when
it ends in a public suffix, in a name that RFCs set aside, or in what reads as a number.

Spec: publicsuffix.org; RFC 6761; RFC 6762 §3; RFC 7686; URL standard §3.5 (ends in a number).
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Final

from publicsuffixlist import PublicSuffixList

__all__ = ("is_meant_elsewhere",)

_SET_ASIDE: Final = frozenset(
    {
        "alt",
        "corp",  # with home and mail: never delegated, as too many networks use them
        "example",
        "home",
        "internal",
        "invalid",
        "lan",
        "local",
        "localhost",
        "mail",
        "onion",
        "svc",  # `<host>.<service>.svc` would read as a Service of the namespace `<service>`
        "test",
    }
)


@lru_cache(maxsize=4096)
def is_meant_elsewhere(name: str) -> bool:
    """Tell whether a DNS name of at least two labels may belong to somebody outside.

    Args:
        name: Lower case, without a final dot.
    """
    last = name.rpartition(".")[2]
    if last in _SET_ASIDE or _is_number(last):
        return True
    return _suffixes().publicsuffix(name) is not None


def _is_number(label: str) -> bool:
    # `10` and `0x1f`: such a host is an address to browsers and resolvers.
    try:
        int(label, 16 if label.startswith("0x") else 10)
    except ValueError:
        return False
    return True


@cache
def _suffixes() -> PublicSuffixList:
    return PublicSuffixList(accept_unknown=False)
