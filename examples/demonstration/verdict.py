# SPDX-License-Identifier: Apache-2.0
"""From what the wire shows and what the server's log says to what was observed.

Rules:
    1. Both have to agree: a refusal that the log does not have, or has for another reason, is not
       the expected outcome, and neither is an answer to somebody whom the log refuses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from examples.demonstration.wire import Answer

__all__ = ("observed",)

_UNAUTHENTICATED, _DENIED = 401, 403

# What the server's log says, in the words of the tables.
_REASONS = (
    ("no certificate", "no certificate"),
    ("authority of another trust domain", "CA of another domain"),
    ("its root was removed", "root removed"),
    ("expired", "expired"),
    ("its issuer is unknown", "unknown root"),
    ("no allow rule", "no rule allows it"),
)


def observed(answer: Answer, log: str) -> str:
    """Say what came of a request.

    Args:
        answer: What its sender saw.
        log: The reason for which the server's log refuses this connection; empty when it does not.
    """
    resumed = " if resumed" if answer.is_resumed else ""
    if answer.status in (None, _UNAUTHENTICATED):  # a connection ends with its 401
        return f"refused: {_words(log)}{resumed}"
    if answer.status == _DENIED:
        return f"403: {_words(log)}{resumed}"
    contradiction = f", though the log says: {log}" if log else ""
    return f"{answer.status}{resumed}{contradiction}"


def _words(log: str) -> str:
    if not log:
        return "the log does not say why"
    return next((words for fragment, words in _REASONS if fragment in log), log)
