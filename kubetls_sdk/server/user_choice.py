# SPDX-License-Identifier: Apache-2.0
"""Which end users a server authenticates: none, by settings, or by a file that each process reads.

PyJWT is needed only where users are authenticated.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from kubetls_sdk._breather import Breather
from kubetls_sdk.authz.issuers import check_issuers
from kubetls_sdk.exceptions import ConfigurationError

if TYPE_CHECKING:
    from kubetls_sdk.authz import PolicySet
    from kubetls_sdk.source import Source
    from kubetls_sdk.users import Users, UserSettings

__all__ = ("UserChoice",)


class UserChoice:
    """What a user of this package gave as `users`; opened once for each process.

    Args:
        users: Settings, the path of a users file, or None.
    """

    def __init__(self, users: UserSettings | str | os.PathLike[str] | None) -> None:
        is_path = isinstance(users, str | os.PathLike)
        self._path = os.path.abspath(users) if is_path else None  # type: ignore[arg-type]
        self._settings: Any = None if is_path else users
        self.opened: Users | None = None

    def open(self, source: Source) -> Users | None:
        """Read the file and begin to follow the keys; None without users.

        Raises:
            ConfigurationError: The file or a key file cannot be used, or PyJWT is missing.
        """
        if self._path is None and self._settings is None:
            return None
        try:
            from kubetls_sdk.users import Users, read_settings
        except ImportError as err:
            raise ConfigurationError(
                f"expected PyJWT for users: pip install 'kubetls-sdk[jwt]' ({err})"
            ) from err
        settings = self._settings if self._path is None else read_settings(self._path)
        self.opened = Users(settings, source=source).start()
        return self.opened

    def check(self, policies: PolicySet) -> None:
        """Refuse policies whose rules leave open whose users they mean.

        Raises:
            PolicyError: Such a rule.
        """
        if self.opened is not None:
            check_issuers(policies, self.opened.issuers, pause=Breather())

    def close(self) -> None:
        """Stop following the keys."""
        if self.opened is not None:
            self.opened.close()
            self.opened = None

    def __getstate__(self) -> dict[str, Any]:
        if self._settings is not None:
            raise ConfigurationError(
                "expected the path of a users file, got settings: they stay in their process"
            )
        return {"_path": self._path, "_settings": None, "opened": None}
