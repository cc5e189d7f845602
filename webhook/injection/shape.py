# SPDX-License-Identifier: Apache-2.0
"""Parts of a JSON object, of the type that they must have.

Rules:
    1. Absent and null are the same, as for the API server.
    2. Another type is an error of whoever sent the request; the message names the field only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from webhook.exceptions import ReviewError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ("flag_in", "mapping_in", "mappings_in", "text_in", "texts_in")


def mapping_in(parent: Mapping[str, Any], name: str) -> dict[str, Any]:
    """An object; empty when absent.

    Raises:
        ReviewError: Something else.
    """
    found = parent.get(name)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise ReviewError(f"expected {name} to be an object")
    return found


def mappings_in(parent: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """A list of objects; empty when absent.

    Raises:
        ReviewError: Something else.
    """
    found = parent.get(name)
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise ReviewError(f"expected {name} to be a list of objects")
    return found


def texts_in(parent: Mapping[str, Any], name: str) -> dict[str, str]:
    """An object of texts; empty when absent.

    Raises:
        ReviewError: Something else.
    """
    found = mapping_in(parent, name)
    if not all(isinstance(each, str) for each in found.values()):
        raise ReviewError(f"expected {name} to be an object of texts")
    return found


def text_in(parent: Mapping[str, Any], name: str) -> str:
    """A text; empty when absent.

    Raises:
        ReviewError: Something else.
    """
    found = parent.get(name)
    if found is not None and not isinstance(found, str):
        raise ReviewError(f"expected {name} to be a text")
    return found or ""


def flag_in(parent: Mapping[str, Any], name: str) -> bool:
    """True or false; false when absent.

    Raises:
        ReviewError: Something else.
    """
    found = parent.get(name)
    if found is not None and not isinstance(found, bool):
        raise ReviewError(f"expected {name} to be true or false")
    return bool(found)
