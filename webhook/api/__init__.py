# SPDX-License-Identifier: Apache-2.0
"""The Kubernetes API, as the control plane uses it: objects, informers, events, leases."""

from __future__ import annotations

from .client import Api, ObjectList
from .errors import (
    AlreadyExistsError,
    ApiError,
    ConflictError,
    ForbiddenError,
    GoneError,
    InvalidError,
    NotFoundError,
    UnreachableError,
)
from .events import EventRecorder
from .informer import Informer
from .leases import Leadership, Membership
from .objects import Namespace, Pod, Service, Volume
from .resources import Resource
from .watching import WatchEvent

__all__ = (
    "AlreadyExistsError",
    "Api",
    "ApiError",
    "ConflictError",
    "EventRecorder",
    "ForbiddenError",
    "GoneError",
    "Informer",
    "InvalidError",
    "Leadership",
    "Membership",
    "Namespace",
    "NotFoundError",
    "ObjectList",
    "Pod",
    "Resource",
    "Service",
    "UnreachableError",
    "Volume",
    "WatchEvent",
)
