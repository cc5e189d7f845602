# SPDX-License-Identifier: Apache-2.0
"""What a rotation of the mounted volume does to the connections that come meanwhile: nothing."""

from __future__ import annotations

import threading

import pytest

from kubetls_sdk import VolumeSource
from kubetls_sdk._context import client_context, server_context
from kubetls_sdk._inner_context import InnerContext
from kubetls_sdk.expectation import AnyTrusted
from kubetls_sdk.testing import DevelopmentCA, KubeletVolume
from tests.handshaking import Handshake
from tests.waiting import until

CA = DevelopmentCA("example.org")


@pytest.fixture
def volume(tmp_path):
    volume = KubeletVolume(tmp_path / "volume")
    volume.write_svid(CA.issue(), [CA.bundle])
    return volume


@pytest.fixture
def source(volume):
    with VolumeSource(volume.directory) as source:
        yield source


@pytest.fixture
def builders(monkeypatch):
    """The threads that have built TLS settings."""
    threads, build = [], InnerContext.build

    def spied(*args, **kwargs):
        threads.append(threading.current_thread())
        return build(*args, **kwargs)

    monkeypatch.setattr(InnerContext, "build", spied)
    return threads


class TestReadiness:
    def test_settings_are_ready_before_the_snapshot_is_in_force(self, volume, source):
        """Whoever subscribes early hears of a snapshot that nobody else can see yet."""
        before, heard = source.snapshot, []
        source.subscribe_early(lambda new: heard.append((new, source.snapshot)))
        volume.write_svid(CA.issue(), [CA.bundle])
        now = until(lambda: source.snapshot is not before and source.snapshot)
        assert heard == [(now, before)]

    def test_early_subscription_ends(self, volume, source):
        """The returned function ends it."""
        heard = []
        source.subscribe_early(heard.append)()
        volume.write_svid(CA.issue(), [CA.bundle])
        until(lambda: source.snapshot.generation == 2)
        assert heard == []

    def test_no_connection_builds_settings(self, volume, source, builders):
        """While the volume rotates, only the watcher's thread builds; no handshake waits for it."""
        server, client = server_context(source), client_context(source, expect=AnyTrusted())
        builders.clear()
        for generation in range(2, 12):
            volume.write_svid(CA.issue(), [CA.bundle])
            _connect_until(client, server, generation)
        assert {thread.name.split("-")[1] for thread in builders} == {"volume"}
        assert len(builders) == 2 * 10

    def test_unusable_settings_do_not_stop_the_rotation(self, volume, source, caplog):
        """A subscriber that fails is logged; the new generation comes into force all the same."""

        def fail(_):
            raise RuntimeError

        source.subscribe_early(fail)
        volume.write_svid(CA.issue(), [CA.bundle])
        until(lambda: source.snapshot.generation == 2)
        assert "a subscriber failed on generation 2" in caplog.text


def _connect_until(client, server, generation):
    until(lambda: Handshake.run(client, server).server.snapshot.generation == generation)
