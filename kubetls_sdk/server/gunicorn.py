# SPDX-License-Identifier: Apache-2.0
"""A gunicorn worker that speaks mutual TLS: `gunicorn -k kubetls_sdk.server.gunicorn.Worker`.

gunicorn keeps its part: processes, signals, reloads. Wrap the application with
`KubeTLSMiddleware`, give gunicorn no certificate, and set the volume with `KUBETLS_DIR`. For other
settings derive a class::

    class Worker(kubetls_sdk.server.gunicorn.Worker):
        CONFIG_KWARGS = {**worker_options(MutualTls(client_cert="optional"))}

Rules:
    1. Each worker opens its own source after the fork; the arbiter never holds a key.
    2. gunicorn's own TLS settings are refused: they would take the place of ours.
"""

from __future__ import annotations

import importlib
import warnings
from typing import Any

from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.server.mutual_tls import MutualTls
from kubetls_sdk.server.refusal_log import adopt_handlers

__all__ = ("Worker", "worker_options")


def _worker_class() -> Any:
    """Get uvicorn's worker class; its own copy is deprecated in favour of the other package."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            module = importlib.import_module("uvicorn_worker")
        except ModuleNotFoundError:
            module = importlib.import_module("uvicorn.workers")
    return module.UvicornWorker


def worker_options(tls: MutualTls) -> dict[str, Any]:
    """Make the `CONFIG_KWARGS` of a worker class."""
    return {"loop": "auto", "http": tls, "proxy_headers": False}


class Worker(_worker_class()):  # type: ignore[misc]
    """uvicorn under gunicorn, with mutual TLS."""

    CONFIG_KWARGS = worker_options(MutualTls())

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.cfg.is_ssl:
            raise ConfigurationError("expected no certfile or keyfile: the mounted volume has it")
        adopt_handlers("gunicorn.error")
