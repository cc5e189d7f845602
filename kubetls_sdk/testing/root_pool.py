# SPDX-License-Identifier: Apache-2.0
"""The published roots of a development CA and which of them signs.

Rules:
    1. Roots are in order of age; only the oldest is withdrawn, and only when it does not sign.
    2. A pool is a value: each change is a new pool.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kubetls_sdk.exceptions import ConfigurationError

if TYPE_CHECKING:
    from kubetls_sdk.testing.authority import Authority

__all__ = ("RootPool",)


@dataclass(frozen=True, slots=True)
class RootPool:
    """The roots between being published and being withdrawn.

    Attributes:
        roots: Oldest first; at least one.
        active: Index of the one that signs.

    Raises:
        ConfigurationError: There is no such root.
    """

    roots: tuple[Authority, ...]
    active: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.active, int) or not 0 <= self.active < len(self.roots):
            raise ConfigurationError(
                f"expected one of {len(self.roots)} roots to be active, got {self.active!r}"
            )

    @property
    def signing(self) -> Authority:
        """The root that signs."""
        return self.roots[self.active]

    def with_root(self, root: Authority) -> RootPool:
        """Publish one more."""
        return replace(self, roots=(*self.roots, root))

    def activated(self) -> RootPool:
        """Let the next root sign.

        Raises:
            ConfigurationError: No root was published that does not sign yet.
        """
        if self.active + 1 >= len(self.roots):
            raise ConfigurationError("expected a published root that does not sign yet: add one")
        return replace(self, active=self.active + 1)

    def retired(self) -> RootPool:
        """Withdraw the oldest root.

        Raises:
            ConfigurationError: The oldest root is the one that signs.
        """
        if self.active == 0:
            raise ConfigurationError("expected a newer root to be active before this one retires")
        return RootPool(self.roots[1:], self.active - 1)
