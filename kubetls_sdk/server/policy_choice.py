# SPDX-License-Identifier: Apache-2.0
"""Which policy a server asks: an authorizer, or files that each process opens for itself."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from kubetls_sdk.authz import PolicySet
from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.server.authorizer import Authorizer

if TYPE_CHECKING:
    from kubetls_sdk.spiffe_id import TrustDomain

__all__ = ("PolicyChoice",)


class PolicyChoice:
    """What a user gave as policy; opened once for each process.

    Args:
        policy: An authorizer, a holder of one as `.current`, or paths of policy files.

    Raises:
        ConfigurationError: Nothing was given.
    """

    def __init__(self, policy: Any) -> None:
        self._authorizer: Any = None
        self._paths: tuple[str, ...] = ()
        self._file: Any = None
        if isinstance(policy, str | os.PathLike):
            policy = [policy]
        if isinstance(policy, Authorizer) or hasattr(policy, "current"):
            self._authorizer = policy
        elif isinstance(policy, Iterable):
            self._paths = tuple(os.fspath(path) for path in policy)
        if self._authorizer is None and not self._paths:
            raise ConfigurationError(
                f"expected a policy, got {policy!r}: AnyVerified() leaves all to the application"
            )

    def open(
        self, trust_domain: TrustDomain, *, check: Callable[[PolicySet], None] | None = None
    ) -> Any:
        """Read the files and follow them.

        Args:
            trust_domain: Our own.
            check: Looks at policies before they are in force; it raises a `PolicyError`.

        Raises:
            PolicyError: A file is missing or not a policy.
        """
        if self._authorizer is not None:
            current = getattr(self._authorizer, "current", self._authorizer)
            if check is not None and isinstance(current, PolicySet):
                check(current)
            return self._authorizer
        from kubetls_sdk.policy_file import PolicyFile

        self._file = PolicyFile(*self._paths, trust_domain=trust_domain, check=check).start()
        return self._file

    def close(self) -> None:
        """Stop following the files."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __getstate__(self) -> dict[str, Any]:
        return {"_authorizer": self._authorizer, "_paths": self._paths, "_file": None}
