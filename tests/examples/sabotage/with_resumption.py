# SPDX-License-Identifier: Apache-2.0
"""`kubetls` that gives out tickets and takes whoever resumes for whom it last verified."""

from __future__ import annotations

import ssl
from typing import Any

from kubetls_sdk._context import ReloadingContext
from kubetls_sdk._inner_context import InnerContext
from kubetls_sdk._verifying import _Verifying
from kubetls_sdk.cli import main

_build = InnerContext.build.__func__  # type: ignore[attr-defined]
_verify_peer = _Verifying._verify_peer
_last: list[Any] = [None]


def build(cls: type[InnerContext], *args: Any, **options: Any) -> InnerContext:
    context: InnerContext = _build(cls, *args, **options)
    if context.reloading.server_side:
        context.options &= ~ssl.OP_NO_TICKET
        context.num_tickets = 2
    return context


def verify_peer(self: Any) -> None:
    if self._sslobj.session_reused:
        self.verified_peer = _last[0]
        return
    _verify_peer(self)
    _last[0] = self.verified_peer


def notes_presented(self: ReloadingContext) -> bool:
    del self
    return True


if __name__ == "__main__":
    InnerContext.build = classmethod(build)  # type: ignore[assignment]
    # With settings of its own, each context would also have ticket keys of its own.
    ReloadingContext._notes_presented = notes_presented  # type: ignore[method-assign]
    _Verifying._verify_peer = verify_peer  # type: ignore[method-assign]
    main()
