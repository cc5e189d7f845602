# SPDX-License-Identifier: Apache-2.0
"""What can go wrong with a development cluster.

```
ClusterError
├── ProgramMissingError    a program is not there; the message says how to get it
├── StartError             a program ended or was not ready in time; the message ends with its log
│   └── PortTakenError     another program took the port first; starting again helps
└── ApiStatusError         the API server answered with an error                 .status .reason
```
"""

from __future__ import annotations


class ClusterError(Exception):
    """Root of everything that the development cluster raises."""


class ProgramMissingError(ClusterError):
    """A program is missing or too old; the message says what to install."""


class StartError(ClusterError):
    """A program ended too early or was not ready in time."""


class PortTakenError(StartError):
    """Another program took the port between its choice and its use."""


class ApiStatusError(ClusterError):
    """The API server answered a request with an error.

    Attributes:
        status: The HTTP status.
        reason: Kubernetes' word for it, for example `NotFound`.
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
