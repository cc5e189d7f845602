# SPDX-License-Identifier: Apache-2.0
"""Patterns over SPIFFE IDs, segment by segment; no regular expressions.

Rules:
    1. The trust domain is always exact: a pattern can never cross domains.
    2. `*` is exactly one whole segment. `**` is one or more segments and only the last.
    3. A star beside other characters (`web-*`) is an error, not a literal.
"""

from __future__ import annotations

from dataclasses import dataclass

from kubetls_sdk.exceptions import SpiffeIdError
from kubetls_sdk.spiffe_id import SpiffeId, TrustDomain

__all__ = ("SpiffeIdPattern",)

_ONE = "*"
_REST = "**"


@dataclass(frozen=True, slots=True)
class SpiffeIdPattern:
    """A SPIFFE ID in which whole path segments may be wildcards.

    Attributes:
        trust_domain: The exact trust domain.
        segments: Path segments; `*` stands for any one, a final `**` for one or more.
    """

    trust_domain: TrustDomain
    segments: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> SpiffeIdPattern:
        """Parse `spiffe://trust-domain/segment/*/**`.

        Raises:
            SpiffeIdError: Not a SPIFFE ID apart from the wildcards, or a misplaced star.
        """
        head, _, path = text.removeprefix("spiffe://").partition("/")
        segments = tuple(path.split("/")) if path else ()
        if _REST in segments[:-1]:
            raise SpiffeIdError(text, "expected '**' only as the last segment")
        wild = (_ONE, _REST)
        plain = "/".join("x" if segment in wild else segment for segment in segments)
        if "*" in plain or "*" in head:
            raise SpiffeIdError(text, "expected '*' and '**' only as whole path segments")
        prefix = text[: len(text) - len(path)] if path else text
        return cls(SpiffeId.parse(prefix + plain).trust_domain, segments)

    @property
    def is_exact(self) -> bool:
        """Whether the pattern has no wildcard, so that it names one identity."""
        return _ONE not in self.segments and _REST not in self.segments

    def matches(self, spiffe_id: SpiffeId) -> bool:
        """Tell whether an identity fits."""
        if spiffe_id.trust_domain != self.trust_domain:
            return False
        found = spiffe_id.path[1:].split("/") if spiffe_id.path else []
        if self.segments and self.segments[-1] == _REST:
            head = self.segments[:-1]
            if len(found) <= len(head):
                return False
            found = found[: len(head)]
        else:
            head = self.segments
            if len(found) != len(head):
                return False
        return all(want in (_ONE, got) for want, got in zip(head, found, strict=True))

    def __str__(self) -> str:
        return "/".join((f"spiffe://{self.trust_domain}", *self.segments))
