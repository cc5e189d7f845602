# SPDX-License-Identifier: Apache-2.0
"""Names of namespaces, as the configuration has them."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ("NamePattern",)


@dataclass(frozen=True, slots=True)
class NamePattern:
    """A namespace's name, or the start of names with one `*` at the end."""

    text: str

    def matches(self, name: str) -> bool:
        """Tell whether a namespace is meant."""
        if self.text.endswith("*"):
            return name.startswith(self.text[:-1])
        return name == self.text
