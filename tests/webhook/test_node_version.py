# SPDX-License-Identifier: Apache-2.0
"""Nodes that are too old for pod certificates are found by their kubelet's version."""

import pytest

from webhook.node_version import old_nodes


def node(version, system="linux"):
    return {
        "metadata": {"name": "n"},
        "status": {"nodeInfo": {"kubeletVersion": version, "operatingSystem": system}},
    }


@pytest.mark.parametrize("version", ["v1.35.0", "v1.37.2", "1.40.1", "v1.36.4+k3s1", "v2.0.0-rc.1"])
def test_new_enough(version):
    """From 1.35 on, whatever the distribution appends."""
    assert old_nodes([node(version)]) == ()


@pytest.mark.parametrize("version", ["v1.34.9", "v1.9.0", "", None, "main", "v1.35x"])
def test_too_old_or_unknown(version):
    """What cannot be read counts as too old: its pods might start without credentials."""
    assert old_nodes([node(version)]) == ("n",)


def test_a_node_without_status():
    """A node that has not said its version yet."""
    assert old_nodes([{"metadata": {"name": "n"}}]) == ("n",)


def test_windows():
    """Pods of Windows nodes are not injected."""
    assert old_nodes([node("v1.30.0", "windows")]) == ()
