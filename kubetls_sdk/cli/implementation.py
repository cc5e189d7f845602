# SPDX-License-Identifier: Apache-2.0
"""Finds out whether uvicorn's implementations that were asked for can be loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from uvicorn.config import HTTP_PROTOCOLS, LOOP_FACTORIES, WS_PROTOCOLS
from uvicorn.importer import ImportFromStringError, import_from_string

from kubetls_sdk.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ("check_implementations",)

_KNOWN: Mapping[str, Mapping[str, str | None]] = {
    "loop": LOOP_FACTORIES,
    "http": HTTP_PROTOCOLS,
    "ws": WS_PROTOCOLS,
}


def check_implementations(options: Mapping[str, Any]) -> None:
    """Load what `--loop`, `--http` and `--ws` name; uvicorn would end in a traceback later.

    Raises:
        ConfigurationError: There is none of that name, or what it needs is not installed.
    """
    for option, known in _KNOWN.items():
        _check(option, options[option], known)


def _check(option: str, name: str, known: Mapping[str, str | None]) -> None:
    try:
        import_from_string(known.get(name, name))
    except ImportFromStringError as err:
        names = ", ".join(known)
        raise ConfigurationError(
            f"expected --{option} {names} or module:attribute, got {name!r}: {err}"
        ) from err
    except ModuleNotFoundError as err:
        raise ConfigurationError(
            f"'--{option} {name}' needs the module {err.name!r}: pip install {err.name}"
        ) from err
