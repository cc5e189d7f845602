# SPDX-License-Identifier: Apache-2.0
"""Traps with mounted credentials that users of other software reported, each as a small case.

The class docstrings name the public reports.
"""

from __future__ import annotations

import logging
import os
import shutil
import ssl
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from kubetls_sdk import NotReadyError, StaticSource, TrustBundleSet
from kubetls_sdk._context import client_context, server_context
from kubetls_sdk.expectation import AnyTrusted
from kubetls_sdk.testing import DevelopmentCA, KubeletVolume, volume_files
from kubetls_sdk.volume_source import VolumeSource
from tests.unprivileged import reachable_directory, without_privileges
from tests.waiting import until

CA = DevelopmentCA("example.org")


@pytest.fixture
def volume(tmp_path):
    volume = KubeletVolume(tmp_path / "volume")
    volume.write_svid(CA.issue(), [CA.bundle])
    return volume


def leaf_on_the_wire(server, client):
    """Shake hands in memory and return the leaf that the server presented."""
    ends = []
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends.append(client.wrap_bio(to_client, to_server, server_hostname="orders"))
    ends.append(server.wrap_bio(to_server, to_client, server_side=True))
    waiting = list(ends)
    for _ in range(10):
        for end in list(waiting):
            try:
                end.do_handshake()
                waiting.remove(end)
            except ssl.SSLWantReadError:
                continue
    assert waiting == []
    return ends[0].verified_peer.leaf


class TestSymlinkSwapMoreThanOnce:
    """A watch that sees one update, or none after the first.

    kubernetes/kubernetes#111947, cilium/cilium#13636, cloudflare/certinel#20,
    kubernetes/ingress-nginx#6386.
    """

    def test_three_swaps_two_of_them_within_a_second(self, volume):
        """Version four is served at the end, without a restart, and old directories are gone."""
        versions = [CA.issue() for _ in range(3)]
        with VolumeSource(volume.directory, poll_seconds=3600) as source:
            volume.write_svid(versions[0], [CA.bundle])
            until(lambda: source.snapshot.svid == versions[0])
            started = time.monotonic()
            for svid in versions[1:]:
                volume.write_svid(svid, [CA.bundle])
            assert time.monotonic() - started < 1
            until(lambda: source.snapshot.svid == versions[2])
            assert source.status.problems == ()
        assert sum(entry.is_dir() for entry in volume.directory.iterdir()) == 2  # And `..data`.

    def test_ten_rotations_in_a_row(self, volume):
        """No update is the last one that is seen."""
        with VolumeSource(volume.directory, poll_seconds=3600) as source:
            for _ in range(10):
                svid = CA.issue()
                volume.write_svid(svid, [CA.bundle])
                until(lambda svid=svid: source.snapshot.svid == svid, interval=0.001)

    def test_gap(self, volume):
        """While the data link is gone the old version is served; then the new one is."""
        svid = CA.issue()
        with VolumeSource(volume.directory, poll_seconds=3600) as source:
            before = source.snapshot
            with volume.gap(volume_files(svid, [CA.bundle])):
                until(lambda: source.status.problems)
                assert source.snapshot is before
            until(lambda: source.snapshot.svid == svid)
            assert source.status.problems == ()


class TestSubPathMountNeverUpdates:
    """Files that were mounted one by one stay old until the pod is restarted.

    opensearch-project/opensearch-k8s-operator#1021, #947; goharbor/harbor-operator#712;
    bank-vaults/bank-vaults#960.
    """

    def test_warns_well_before_expiry(self, volume, caplog):
        """Plain files whose content never changes are reported while they are still valid."""
        svid = CA.issue(ttl=timedelta(hours=24))
        volume.write_plain(volume_files(svid, [CA.bundle]))
        now = [datetime.now(UTC)]
        caplog.set_level(logging.WARNING)
        with VolumeSource(volume.directory, clock=lambda: now[0]) as source:
            assert caplog.records == []
            now[0] += timedelta(hours=17)
            source.reload()
            source.reload()
            assert source.snapshot.svid.is_valid_at(now[0])
        (record,) = caplog.records
        assert record.levelno == logging.WARNING
        assert "is the volume mounted by subPath, which is never updated?" in record.getMessage()


class TestFailedReloadDamagesTheServer:
    """A pair that was checked, read again by path, and left half applied.

    Tr3kkR/Yuzu#4742, python/cpython#143818.
    """

    def test_a_bad_rotation_leaves_the_old_leaf_on_the_wire(self, volume):
        """A mismatched pair is never served; the next good one is."""
        client = client_context(
            StaticSource(CA.issue(), TrustBundleSet([CA.bundle])), expect=AnyTrusted()
        )
        with VolumeSource(volume.directory) as source:
            server = server_context(source)
            old = source.snapshot.svid.leaf
            assert leaf_on_the_wire(server, client) == old
            volume.write_svid(CA.issue_faulty("wrong_key"), [CA.bundle], "kubernetes-tls")
            source.reload()
            assert leaf_on_the_wire(server, client) == old
            volume.write_svid(svid := CA.issue(), [CA.bundle], "kubernetes-tls")
            source.reload()
            assert leaf_on_the_wire(server, client) == svid.leaf

    def test_half_written_files(self, volume):
        """A key that is rewritten in place before its certificate keeps the old pair meanwhile."""
        old, new = CA.issue(), CA.issue()
        volume.write_plain(volume_files(old, [CA.bundle], "kubernetes-tls"))
        with VolumeSource(volume.directory, poll_seconds=3600) as source:
            (volume.directory / "tls.key").write_bytes(new.private_key_pem())
            until(lambda: source.status.problems)
            assert source.snapshot.svid == old
            (volume.directory / "tls.crt").write_bytes(new.certificates_pem())
            until(lambda: source.snapshot.svid == new)


class TestFilesTheProcessMayNotRead:
    """A message that does not say whose file it is, nor what to set.

    cert-manager/csi-driver#22, #231; smallstep/autocert#14, #55.
    """

    @pytest.mark.skipif(os.geteuid() != 0, reason="needs a file of another user")
    def test_key_of_another_user(self):
        """The error names file, owner, mode, the current user and what to set in the pod."""
        with reachable_directory() as directory:
            volume = KubeletVolume(directory / "volume", key_mode=0o600)
            volume.write_svid(CA.issue(), [CA.bundle], "kubernetes-tls")
            with without_privileges(), pytest.raises(NotReadyError) as caught:
                VolumeSource(volume.directory).start(wait=0)
        message = str(caught.value)
        assert f"{volume.directory}/tls.key: permission denied: owner uid 0, gid 0, mode 0600" in (
            message
        )
        assert "this process runs as uid 65534, groups [65534]" in message
        assert "set the volume's defaultMode to 0440 and securityContext.fsGroup" in message

    def test_unreadable_after_a_rotation(self, caplog):
        """The old pair stays in force, and one line says that the new one cannot be read."""
        with reachable_directory() as directory:
            volume = KubeletVolume(directory / "volume")
            volume.write_svid(CA.issue(), [CA.bundle])
            source = VolumeSource(volume.directory)
            # No watcher thread: it would look with the rights of root between our own looks.
            assert source._first_look() is None
            before = source.snapshot
            closed = KubeletVolume(volume.directory, key_mode=0o600 if os.geteuid() == 0 else 0)
            closed.write_svid(CA.issue(), [CA.bundle])
            with without_privileges():
                assert source.reload() is before
                assert source.reload() is before
        assert caplog.text.count("permission denied") == 1
        assert f"keeping {before.svid!r}" in caplog.text


class TestTrustReachesPodsMinutesLate:
    """A new root that only one side has yet looks like an attack.

    RafPe/pod-certificate-signer#110.
    """

    def test_the_age_of_trust_can_be_told(self, volume):
        """The status says since when the content of a bundle is what it is, shuffles apart."""
        ca = DevelopmentCA("example.org")
        ca.add_root()
        now = [datetime.now(UTC)]
        volume.write_svid(ca.issue(), [ca.bundle])
        with VolumeSource(volume.directory, clock=lambda: now[0]) as source:
            (first,) = source.status.bundles
            now[0] += timedelta(minutes=5)
            volume.write_svid(source.snapshot.svid, [ca.bundle], shuffle=True)
            source.reload()
            assert source.status.bundles[0].changed_at == first.changed_at
            ca.activate_root()
            ca.retire_root()
            volume.write_svid(source.snapshot.svid, [ca.bundle])
            source.reload()
            assert source.status.bundles[0].changed_at == now[0]


class TestFirstCertificateIsLate:
    """A process that gives up, or loops, because the first certificate was not there.

    smallstep/autocert#46.
    """

    def test_waits_and_then_says_which_file(self, tmp_path):
        """The wait is bounded, and its end names the file."""
        volume = KubeletVolume(tmp_path)
        volume.write({"ca.crt": CA.bundle.to_pem(), "tls.crt": CA.issue().certificates_pem()})
        with pytest.raises(NotReadyError, match=r"after 0\.2 s: .*/tls\.key: expected this file"):
            VolumeSource(tmp_path).start(wait=0.2)

    def test_starts_when_it_comes(self, tmp_path):
        """A volume that is completed during the wait is used at once."""
        volume = KubeletVolume(tmp_path / "volume")
        svid = CA.issue()
        timer = threading.Timer(0.1, lambda: volume.write_svid(svid, [CA.bundle]))
        timer.start()
        with VolumeSource(volume.directory) as source:
            assert source.snapshot.svid == svid
        timer.join()
        shutil.rmtree(volume.directory)
