# SPDX-License-Identifier: Apache-2.0
"""The main job, on your machine: `make demo`.

Real processes with a mounted volume each authenticate one another while everything rotates under
load. `web`, `orders` and `billing` belong to `example.org`, a partner to `partner.example`.
"""
