# SPDX-License-Identifier: Apache-2.0
"""Errors of the control plane; each says who is at fault.

    KubeTLSError
    ├── ConfigurationError    the platform's configuration
    └── WebhookError
        ├── ReviewError       an HTTP request is not a valid AdmissionReview   -> .status (4xx)
        ├── AdmissionDenied   the pod is refused; the message is for its author -> allowed: false
        └── IssuanceError     a certificate is not issued   -> .is_retryable, .reason

Rules:
    1. A message never holds a key, a token, a CSR or PEM.
"""

from __future__ import annotations

from kubetls_sdk.exceptions import KubeTLSError

__all__ = ("AdmissionDenied", "IssuanceError", "ReviewError", "WebhookError")


class WebhookError(KubeTLSError):
    """The root of the control plane's own errors."""


class ReviewError(WebhookError):
    """A request is not a valid AdmissionReview.

    Attributes:
        status: HTTP status of the answer, 4xx.
    """

    def __init__(self, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class AdmissionDenied(WebhookError):  # noqa: N818 - a verdict, named as Kubernetes names it
    """A pod is refused; the message tells its author which annotation or field, and what may be."""


class IssuanceError(WebhookError):
    """A certificate is not issued.

    Attributes:
        reason: CamelCase, for conditions and Events; Kubernetes' documented one where there is one.
        is_retryable: Transient: the request stays pending. Otherwise it is refused for ever.
    """

    def __init__(self, message: str, *, reason: str, is_retryable: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.is_retryable = is_retryable
