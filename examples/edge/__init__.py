# SPDX-License-Identifier: Apache-2.0
"""A service at the edge, on your machine: `make demo-edge`.

A browser and an app call an external API, which calls an internal API; partners call the internal
API directly. Real processes, three trust domains inside, an ordinary public certificate outside.
"""
