# SPDX-License-Identifier: Apache-2.0
"""End users: who calls *through* a workload, proven by a JWT access token or a JWT-SVID.

    settings = UserSettings(
        issuers=[
            Issuer(
                name="https://login.example.com/",
                audiences="https://orders.example.com",
                keys=KeyUrl(url="https://login.example.com/jwks.json"),
            )
        ]
    )
    with Users(settings) as users:
        answer = await users.resolve(headers, peer)  # a User, None, or a TokenRefused

Needs PyJWT, and httpx for keys by URL: `pip install 'kubetls-sdk[jwt]'`.
"""

from __future__ import annotations

from .authentication import KeysWanted, Users
from .document import parse_settings, read_settings
from .key_file import KeyFile
from .key_set import KeySet
from .key_url import KeyUrl
from .keys import InlineKeys
from .settings import UserSettings
from .token_rules import CertificateBound, Issuer, JwtSvids
from .user import InvalidTokenError, TokenKind, TokenRefused, User

__all__ = (
    "CertificateBound",
    "InlineKeys",
    "InvalidTokenError",
    "Issuer",
    "JwtSvids",
    "KeyFile",
    "KeySet",
    "KeyUrl",
    "KeysWanted",
    "TokenKind",
    "TokenRefused",
    "User",
    "UserSettings",
    "Users",
    "parse_settings",
    "read_settings",
)
