# SPDX-License-Identifier: Apache-2.0
"""Options that several commands have."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from kubetls_sdk.exceptions import ConfigurationError
from webhook.config import PlatformConfig
from webhook.names import SYSTEM_NAMESPACE

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("PORT", "config_option", "kubeconfig", "log_level", "namespace_option", "read_platform")

F = TypeVar("F", bound="Callable[..., Any]")

PORT = click.IntRange(0, 65535)
_PATH = click.Path(path_type=Path)


def config_option(command: F) -> F:
    """`--config`: the platform's configuration."""
    return click.option(
        "--config",
        type=_PATH,
        default=Path("/etc/kubetls/platform.yaml"),
        show_default=True,
        help="The platform's configuration; followed.",
    )(command)


def namespace_option(command: F) -> F:
    """`--namespace`: where the control plane lives."""
    return click.option(
        "--namespace",
        envvar="POD_NAMESPACE",
        default=SYSTEM_NAMESPACE,
        show_default=True,
        help="Where the control plane lives.",
    )(command)


def log_level(command: F) -> F:
    """`--log-level`: how much is logged."""

    def use(_context: click.Context, _parameter: click.Parameter, value: str) -> None:
        logging.getLogger().setLevel(value.upper())

    return click.option(
        "--log-level",
        type=click.Choice(["debug", "info", "warning", "error"]),
        default="info",
        show_default=True,
        callback=use,
        expose_value=False,
        help="How much is logged.",
    )(command)


def kubeconfig() -> Path | None:
    """The kubeconfig of `KUBECONFIG`; None: the pod's own service account.

    Raises:
        ConfigurationError: `KUBECONFIG` names several files.
    """
    text = os.environ.get("KUBECONFIG")
    if text and os.pathsep in text:
        raise ConfigurationError("expected one file in KUBECONFIG, got several")
    return Path(text) if text else None


def read_platform(path: Path) -> PlatformConfig:
    """Read the platform's configuration once.

    Raises:
        ConfigurationError: Missing, unreadable or not valid.
    """
    try:
        text = path.read_text("utf-8")
    except OSError as err:
        raise ConfigurationError(f"{path}: expected a configuration, got {err.strerror}") from err
    except UnicodeDecodeError as err:
        raise ConfigurationError(f"{path}: expected a configuration, got no UTF-8 text") from err
    return PlatformConfig.parse(text, file=str(path))
