# SPDX-License-Identifier: Apache-2.0
"""Programs that show KubeTLS at work; each folder runs as a test."""
