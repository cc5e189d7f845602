# SPDX-License-Identifier: Apache-2.0
"""The volume source on a real directory: start, rotation, failures, end."""

from __future__ import annotations

import asyncio
import base64
import copy
import logging
import os
import pickle
import shutil
import ssl
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from prometheus_client import CollectorRegistry

from kubetls_sdk import (
    ConfigurationError,
    NotReadyError,
    Source,
    SourceClosedError,
    _volume_reader,
    metrics,
)
from kubetls_sdk._context import server_context
from kubetls_sdk.testing import LAYOUTS, DevelopmentCA, KubeletVolume, volume_files
from kubetls_sdk.volume import VolumeFiles
from kubetls_sdk.volume_source import VolumeSource
from tests.chains import der, resign
from tests.fresh_process import run_in_fresh_process
from tests.waiting import until

CA = DevelopmentCA("example.org")
PARTNER = DevelopmentCA("partner.example")
OWN, OTHER = CA.trust_domain, PARTNER.trust_domain
HOUR = timedelta(hours=1)
RESULTS = ("failed", "changed", "unchanged")


class Clock:
    """A clock that a test sets."""

    def __init__(self):
        self.now = datetime.now(UTC)

    def __call__(self):
        return self.now


@pytest.fixture
def volume(tmp_path):
    volume = KubeletVolume(tmp_path / "volume")
    volume.write_svid(CA.issue(), [CA.bundle, PARTNER.bundle])
    return volume


def edited(certificate, old, new, signer):
    """PEM of a certificate with other bytes, truly signed."""
    assert old in certificate.tbs_certificate_bytes
    tbs = certificate.tbs_certificate_bytes.replace(old, new)
    body = base64.encodebytes(resign(certificate, tbs, signer.root.private_key, hashes.SHA256()))
    return b"-----BEGIN CERTIFICATE-----\n" + body + b"-----END CERTIFICATE-----\n"


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def quiet(volume, clock):
    """A source whose looks are the test's own: the watcher is not started."""
    source = VolumeSource(volume.directory, clock=clock)
    assert source._first_look() is None
    return source


def watcher_threads():
    return [t for t in threading.enumerate() if t.name.startswith("kubetls-volume-")]


class TestStart:
    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_every_layout(self, volume, layout):
        """A mounted volume is in force inside the `with` block."""
        svid = CA.issue()
        volume.write_svid(svid, [CA.bundle], layout)
        with VolumeSource(volume.directory) as source:
            assert source.snapshot.svid == svid
            assert source.snapshot.own_bundle == CA.bundle
            assert source.snapshot.generation == 1
            assert source.status.layout == layout

    def test_is_a_source(self, quiet):
        """It fits the protocol that servers and clients ask for."""
        assert isinstance(quiet, Source)

    def test_async(self, volume):
        """`async with` does the same and leaves no thread behind."""

        async def use():
            async with VolumeSource(volume.directory) as source:
                return source.snapshot.svid.spiffe_id

        assert asyncio.run(use()) == CA.spiffe_id()
        assert watcher_threads() == []

    def test_waits_for_a_late_volume(self, tmp_path):
        """The first certificate may arrive after the process has started."""
        directory = tmp_path / "late"
        svid = CA.issue()
        timer = threading.Timer(0.2, lambda: KubeletVolume(directory).write_svid(svid, [CA.bundle]))
        timer.start()
        with VolumeSource(directory) as source:
            assert source.snapshot.svid == svid
        timer.join()

    @pytest.mark.parametrize(
        ("files", "message"),
        [
            pytest.param(
                {"unrelated": b""},
                "expected 'credential-bundle.pem', or 'tls.key' and 'tls.crt', or 'svid_key.pem'"
                " and 'svid.pem'; found 'unrelated'",
                id="nothing known",
            ),
            pytest.param(
                {"tls.crt": CA.issue().certificates_pem(), "ca.crt": CA.bundle.to_pem()},
                "tls.key: expected this file, got none; found 'ca.crt', 'tls.crt'",
                id="no key",
            ),
            pytest.param(
                volume_files(CA.issue(), []), "expected a trust bundle (", id="no trust bundle"
            ),
            pytest.param(
                volume_files(CA.issue(), []) | {"Example.org.trust-bundle.pem": b""},
                "Example.org.trust-bundle.pem: name of the bundle: expected only a-z",
                id="only a misnamed bundle",
            ),
            pytest.param(
                volume_files(CA.issue_faulty("expired"), [CA.bundle]),
                "that expired at",
                id="expired",
            ),
            pytest.param(
                volume_files(CA.issue_faulty("not_yet_valid"), [CA.bundle]),
                "is the clock of the node right?",
                id="not yet valid",
            ),
            pytest.param(
                volume_files(CA.issue(), []) | {"example.org.trust-bundle.pem": b"garbage"},
                "example.org.trust-bundle.pem: expected PEM CERTIFICATE blocks",
                id="own bundle unusable",
            ),
        ],
    )
    def test_says_what_is_missing(self, volume, files, message):
        """After the bounded wait the error names what is missing, and what was found."""
        volume.write(files)
        with (
            pytest.raises(NotReadyError) as caught,
            VolumeSource(volume.directory, ready_timeout=0),
        ):
            pass
        assert str(caught.value).startswith("no usable credentials after 0 s: ")
        assert message in str(caught.value)

    def test_missing_directory(self, tmp_path):
        """A directory that does not exist is named, with what is beside it."""
        (tmp_path / "other").mkdir()
        with pytest.raises(NotReadyError, match=r"missing: expected a directory.*has 'other'"):
            VolumeSource(tmp_path / "missing").start(wait=0)

    def test_says_what_to_do(self, tmp_path):
        """The error names the command that knows the remedy, ready to be pasted."""
        with pytest.raises(NotReadyError, match=r"kubetls doctor '.*/not mounted'$"):
            VolumeSource(tmp_path / "not mounted").start(wait=0)

    def test_waits_aloud(self, tmp_path, caplog):
        """What the start waits for is logged once, at once."""
        with pytest.raises(NotReadyError):
            VolumeSource(tmp_path / "missing").start(wait=0.2)
        waiting = [text for text in caplog.messages if text.startswith("waiting at most 0.2 s")]
        assert len(waiting) == 1
        assert "/missing: expected a directory" in waiting[0]

    def test_wait_is_bounded(self, tmp_path):
        """`wait` replaces the source's own time."""
        started = time.monotonic()
        with pytest.raises(NotReadyError, match=r"after 0\.1 s"):
            VolumeSource(tmp_path / "missing", ready_timeout=20).start(wait=0.1)
        assert time.monotonic() - started < 5
        assert watcher_threads() == []

    def test_unusable_partner_does_not_hold_up_the_start(self, volume, caplog):
        """A partner's broken bundle trusts nobody of that partner, and is logged."""
        broken = {"partner.example.trust-bundle.pem": b"garbage"}
        volume.write(volume_files(CA.issue(), [CA.bundle]) | broken)
        with VolumeSource(volume.directory) as source:
            assert len(source.snapshot.bundles[OTHER]) == 0
        assert "nobody of 'partner.example' is trusted" in caplog.text

    def test_trust_domain_is_asserted(self, volume):
        """An SVID of another trust domain than the stated one is refused."""
        with pytest.raises(NotReadyError, match=r"expected an SVID of 'other\.example'"):
            VolumeSource(volume.directory, trust_domain="other.example").start(wait=0)

    def test_cancelled_async_start(self, tmp_path):
        """A start that is cancelled while it waits leaves no thread behind."""

        async def use():
            source = VolumeSource(tmp_path / "missing", ready_timeout=10)
            task = asyncio.create_task(source.__aenter__())
            await asyncio.to_thread(until, lambda: source.status.last_error)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        started = time.monotonic()
        asyncio.run(use())  # Joins the threads of `asyncio.to_thread`.
        assert time.monotonic() - started < 5
        assert watcher_threads() == []

    def test_only_once(self, volume):
        """A second start, or one after the end, is a mistake of the caller."""
        with VolumeSource(volume.directory) as source, pytest.raises(ConfigurationError):
            source.start()
        with pytest.raises(ConfigurationError):
            source.start()

    def test_before_the_start(self, volume):
        """A source that was not started has nothing to hand out."""
        source = VolumeSource(volume.directory)
        with pytest.raises(NotReadyError, match="use 'with'"):
            _ = source.snapshot
        with pytest.raises(NotReadyError):
            source.reload()

    @pytest.mark.parametrize(
        "options",
        [
            {"directory": "/a", "files": VolumeFiles("/b")},
            {"poll_seconds": 0},
            {"ready_timeout": -1},
            {"max_stale": timedelta(seconds=-1)},
        ],
        ids=",".join,
    )
    def test_settings_out_of_range(self, options):
        """Contradictory settings are refused at construction."""
        with pytest.raises(ConfigurationError):
            VolumeSource(**options)


class TestRotation:
    def test_takes_effect_within_a_second(self, volume):
        """New files are in force fast, without anyone asking for it."""
        with VolumeSource(volume.directory, poll_seconds=3600) as source:
            for _ in range(3):
                svid = CA.issue()
                started = time.monotonic()
                volume.write_svid(svid, [CA.bundle])
                until(lambda svid=svid: source.snapshot.svid == svid, interval=0.001)
                assert time.monotonic() - started < 1

    def test_subscribers_hear_each_generation_in_order(self, volume):
        """A subscriber gets every later snapshot, when it is already in force; until it leaves."""
        heard = []
        with VolumeSource(volume.directory) as source:
            leave = source.subscribe(lambda s: heard.append((s.generation, source.snapshot is s)))
            for _ in range(3):
                volume.write_svid(CA.issue(), [CA.bundle])
                source.reload()
            leave()
            volume.write_svid(CA.issue(), [CA.bundle])
            source.reload()
        assert heard == [(2, True), (3, True), (4, True)]

    def test_shuffled_bundle_is_no_new_generation(self, quiet, volume):
        """The kubelet shuffles the file on purpose: the set is what counts."""
        ca = DevelopmentCA("example.org")
        ca.add_root()
        pems = [authority.public_bytes(Encoding.PEM) for authority in ca.bundle.authorities]
        files = volume_files(ca.issue(), [])
        name = "example.org.trust-bundle.pem"
        volume.write(files | {name: b"".join(pems)})
        before = quiet.reload()
        assert volume.write(files | {name: b"".join(reversed(pems))})
        assert quiet.reload() is before

    def test_a_touched_file_is_no_new_generation(self, quiet, volume):
        """Equal content in a new directory is the same snapshot object."""
        before = quiet.snapshot
        volume.write(volume.read(), always=True)
        assert quiet.reload() is before

    def test_unchanged_files_are_not_parsed_again(self, quiet, monkeypatch):
        """A poll of unchanged files costs a read, not a parse."""
        monkeypatch.setattr(_volume_reader, "parse_volume", None)
        quiet.reload()

    def test_removed_root(self, quiet, volume):
        """A root that leaves the bundle leaves the snapshot."""
        ca = DevelopmentCA("example.org")
        old = ca.bundle
        ca.add_root()
        ca.activate_root()
        volume.write_svid(ca.issue(), [ca.bundle])
        assert len(quiet.reload().own_bundle) == 2
        ca.retire_root()
        volume.write_svid(ca.issue(), [ca.bundle])
        assert quiet.reload().own_bundle == ca.bundle != old

    def test_explicit_paths(self, tmp_path):
        """Files anywhere are followed as well."""
        svid = CA.issue()
        both, own = tmp_path / "a" / "both.pem", tmp_path / "b" / "own.pem"
        for file in (both, own):
            file.parent.mkdir()
        both.write_bytes(svid.private_key_pem() + svid.certificates_pem())
        own.write_bytes(CA.bundle.to_pem())
        files = VolumeFiles(certificate=both, own_bundle=own)
        with VolumeSource(files=files, poll_seconds=3600) as source:
            assert source.status.layout == "explicit"
            own.write_bytes(b"")
            until(lambda: len(source.snapshot.own_bundle) == 0)

    def test_directory_removed_and_made_again(self, volume):
        """A watch on the old directory is replaced by one on the new directory."""
        with VolumeSource(volume.directory, poll_seconds=3600) as source:
            for _ in range(2):
                shutil.rmtree(volume.directory)
                until(lambda: source.status.problems)
                svid = CA.issue()
                KubeletVolume(volume.directory).write_svid(svid, [CA.bundle])
                until(lambda svid=svid: source.snapshot.svid == svid)
                assert source.status.problems == ()

    def test_new_directory_is_watched(self, volume):
        """A file that is rewritten in place in a directory that was made again is seen."""
        with VolumeSource(volume.directory, poll_seconds=3600) as source:
            shutil.rmtree(volume.directory)
            until(lambda: source.status.problems)
            again = KubeletVolume(volume.directory)
            again.write_plain(volume_files(CA.issue(), [CA.bundle]))
            until(lambda: source.status.problems == ())
            file = volume.directory / "example.org.trust-bundle.pem"
            file.write_bytes(b"")
            until(lambda: len(source.snapshot.own_bundle) == 0)

    def test_where_nothing_can_be_watched(self, volume, monkeypatch, caplog):
        """Without inotify the files are polled, and that is said once."""

        def no_watches(*_args, **_options):
            raise OSError(24, "inotify limit reached")

        monkeypatch.setattr("watchfiles.watch", no_watches)
        with VolumeSource(volume.directory, poll_seconds=0.05) as source:
            for _ in range(2):
                svid = CA.issue()
                volume.write_svid(svid, [CA.bundle])
                until(lambda svid=svid: source.snapshot.svid == svid)
        assert caplog.text.count("cannot watch") == 1

    def test_mount_that_sends_no_notifications(self, volume, monkeypatch):
        """The slow poll finds what a silent mount does not announce."""

        def silent(*_paths, stop_event, **_options):
            while not stop_event.wait(0.05):
                yield set()

        monkeypatch.setattr("watchfiles.watch", silent)
        volume.write_plain(volume_files(CA.issue(), [CA.bundle]))
        with VolumeSource(volume.directory, poll_seconds=0.1) as source:
            heard = threading.Event()
            source.subscribe(lambda _: heard.set())
            (volume.directory / "example.org.trust-bundle.pem").write_bytes(b"")
            assert heard.wait(5)
            heard.clear()
            file = volume.directory / "credential-bundle.pem"
            file.write_bytes(volume_files(CA.issue(), [])["credential-bundle.pem"])
            assert heard.wait(5)

    def test_a_bug_in_a_look_does_not_end_the_watcher(self, volume, monkeypatch, caplog):
        """An unexpected error is logged and the next change is seen all the same."""
        original = _volume_reader.parse_volume
        failing = iter([True])

        def parse(*args, **options):
            if next(failing, False):
                raise RuntimeError("a bug")
            return original(*args, **options)

        with VolumeSource(volume.directory) as source:
            monkeypatch.setattr(_volume_reader, "parse_volume", parse)
            volume.write_svid(CA.issue(), [CA.bundle])
            until(lambda: "a bug" in caplog.text)
            volume.write_svid(svid := CA.issue(), [CA.bundle])
            until(lambda: source.snapshot.svid == svid)


class TestFailures:
    def test_one_line_per_problem_and_one_for_the_recovery(self, quiet, volume, caplog):
        """Ten looks at a broken key make one error line; the repair makes one more line."""
        caplog.set_level(logging.INFO, logger="kubetls_sdk.volume_source")
        before = quiet.snapshot
        volume.write_svid(CA.issue_faulty("wrong_key"), [CA.bundle, PARTNER.bundle])
        for _ in range(10):
            assert quiet.reload() is before
        errors = [r for r in caplog.records if r.levelno >= logging.ERROR]
        assert len(errors) == 1
        assert "credential-bundle.pem: expected the private key" in errors[0].getMessage()
        volume.write_svid(CA.issue(), [CA.bundle, PARTNER.bundle])
        for _ in range(3):
            quiet.reload()
        assert caplog.text.count("SVID: recovered") == 1

    def test_a_second_problem_is_a_second_line(self, quiet, volume, caplog):
        """Another thing that is wrong is said as well."""
        volume.write_svid(CA.issue_faulty("wrong_key"), [CA.bundle])
        quiet.reload()
        volume.write_svid(CA.issue_faulty("no_san"), [CA.bundle])
        quiet.reload()
        assert len([r for r in caplog.records if r.levelno >= logging.ERROR]) == 2

    @pytest.mark.parametrize("fault", ["wrong_key", "no_san", "two_uris", "ca_leaf", "expired"])
    def test_trust_follows_while_the_svid_is_broken(self, quiet, volume, fault):
        """A bad rotation keeps the old SVID, and still removes a partner at once."""
        svid = quiet.snapshot.svid
        volume.write_svid(CA.issue_faulty(fault), [CA.bundle])
        snapshot = quiet.reload()
        assert (snapshot.svid, set(snapshot.bundles)) == (svid, {OWN})
        assert quiet.status.last_error

    def test_leaf_that_no_parser_takes(self, quiet, volume):
        """Not even its trust domain can be read: a bundle that was emptied beside it still is."""
        volume.write_svid(CA.issue(), [CA.bundle], "kubernetes-tls")
        quiet.reload()
        pem = edited(CA.issue().leaf, b"\xa0\3\2\1\2", b"\xa0\3\2\1\4", CA)
        volume.write(volume.read() | {"tls.crt": pem, "ca.crt": b""})
        assert len(quiet.reload().bundles[OWN]) == 0

    @pytest.mark.parametrize("part", ["partner's root", "SVID"])
    def test_certificate_that_openssl_alone_refuses(self, quiet, volume, part):
        """It spoils its own file; every connection would fail if it came into force."""
        context = server_context(quiet)
        files = volume_files(svid := CA.issue(common_name="web"), [CA.bundle, PARTNER.bundle])
        if part == "SVID":
            pem = edited(svid.leaf, der(0x0C, b"web"), der(0x04, b"web"), CA)
            files["credential-bundle.pem"] = svid.private_key_pem() + pem
        else:
            name = PARTNER.authority.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
            old, new = (der(tag, name.encode()) for tag in (0x0C, 0x04))
            pem = edited(PARTNER.authority, old, new, PARTNER)
            files["partner.example.trust-bundle.pem"] = pem
        volume.write(files)
        after = quiet.reload()
        assert after.bundles[OTHER] == PARTNER.bundle
        assert (after.svid == svid) is (part != "SVID")
        assert "OpenSSL does not take" in str(quiet.status.last_error)
        context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True)

    def test_bug_in_parsing(self, quiet, volume, clock, monkeypatch):
        """Trust ages as if the volume could not be read: no bug of ours keeps a root for ever."""

        def parse(*_args, **_options):
            raise RuntimeError("a bug")

        monkeypatch.setattr(_volume_reader, "parse_volume", parse)
        volume.write_svid(CA.issue(), [])
        assert len(quiet.reload().bundles[OWN]) == 1
        clock.now += HOUR
        assert len(quiet.reload().bundles[OWN]) == 0

    def test_svid_of_another_trust_domain(self, volume):
        """With a stated trust domain a foreign volume changes neither identity nor trust."""
        with VolumeSource(volume.directory, trust_domain=OWN) as source:
            before = source.snapshot
            volume.write_svid(PARTNER.issue(), [PARTNER.bundle], "kubernetes-tls")
            after = source.reload()
            assert (after.svid, after.own_bundle) == (before.svid, CA.bundle)

    def test_bundle_emptied(self, volume):
        """A readable and empty bundle is in force at once."""
        with VolumeSource(volume.directory, poll_seconds=3600) as source:
            volume.write(volume.read() | {"partner.example.trust-bundle.pem": b""})
            until(lambda: len(source.snapshot.bundles[OTHER]) == 0)

    def test_bundle_unreadable_for_a_bounded_age(self, quiet, volume, clock, caplog):
        """It stays trusted for an hour; then its domain trusts nobody, and the log says so."""
        volume.write(volume.read() | {"partner.example.trust-bundle.pem": b"garbage"})
        clock.now += timedelta(minutes=59)
        assert quiet.reload().bundles[OTHER] == PARTNER.bundle
        (stale,) = quiet.status.stale_bundles
        assert (stale.trust_domain, stale.authorities) == (OTHER, 1)
        clock.now += timedelta(minutes=1)
        assert len(quiet.reload().bundles[OTHER]) == 0
        assert "nobody of 'partner.example' is trusted" in caplog.text

    @pytest.mark.parametrize(
        "vanish",
        [
            pytest.param(KubeletVolume.clear, id="emptied"),
            pytest.param(lambda volume: shutil.rmtree(volume.directory), id="removed"),
        ],
    )
    def test_vanished_volume(self, quiet, volume, clock, vanish):
        """Everything is kept, trust for a bounded age."""
        before = quiet.snapshot
        vanish(volume)
        assert quiet.reload() is before
        assert quiet.status.layout == "spiffe"
        clock.now += HOUR
        after = quiet.reload()
        assert after.svid == before.svid
        assert [len(bundle) for bundle in after.bundles.values()] == [0, 0]

    def test_metrics(self, quiet, volume, clock):
        """Each look, each distinct problem, generation, expiry and stale trust are measured."""
        registry = CollectorRegistry()
        value = registry.get_sample_value
        partner = {"trust_domain": "partner.example"}
        metrics.enable(registry)
        try:
            volume.write(volume.read() | {"partner.example.trust-bundle.pem": b"garbage"})
            quiet.reload()
            clock.now += timedelta(seconds=30)
            quiet.reload()
            assert value(metrics.BUNDLE_STALE_SECONDS, partner) == 30
            assert value(metrics.BUNDLE_AUTHORITIES, partner) == 1
            volume.write_svid(svid := CA.issue(), [CA.bundle])
            quiet.reload()
            quiet.reload()
            assert value(metrics.BUNDLE_STALE_SECONDS, partner) == 0
            assert value(metrics.BUNDLE_AUTHORITIES, partner) == 0
            assert value(metrics.GENERATION) == 2
            assert value(metrics.SVID_NOT_AFTER) == svid.not_after.timestamp()
            assert value(metrics.VOLUME_PROBLEMS, {"kind": "bundle"}) == 1
            results = {r: value(metrics.VOLUME_RELOADS, {"result": r}) for r in RESULTS}
            assert results == {"failed": 2, "changed": 1, "unchanged": 1}
        finally:
            metrics.disable()

    def test_key_is_in_no_log_line(self, quiet, volume, caplog):
        """No line of the log holds a line of the key, whatever went wrong."""
        caplog.set_level(logging.DEBUG)
        key = CA.issue().private_key_pem()
        for files in (
            {"tls.key": key, "tls.crt": key},
            {"tls.key": key[:-40], "tls.crt": b""},
            {"credential-bundle.pem": key},
        ):
            volume.write(files | {"ca.crt": key})
            quiet.reload()
        assert caplog.records
        assert all(line not in caplog.text for line in key.decode().splitlines()[1:3])


class TestAge:
    def test_warns_once_at_the_refresh_point_and_at_expiry(self, quiet, clock, caplog):
        """Files that never change are reported long before they fail, naming subPath."""
        svid = quiet.snapshot.svid
        clock.now = svid.not_before + (svid.not_after - svid.not_before) * 0.75
        for _ in range(3):
            quiet.reload()
        assert caplog.text.count("mounted by subPath") == 1
        clock.now = svid.not_after + timedelta(seconds=1)
        for _ in range(3):
            quiet.reload()
        assert caplog.text.count("has expired and was not replaced") == 1
        assert quiet.snapshot.svid == svid


class TestEnd:
    def test_no_thread_is_left(self, volume):
        """Watcher and thread end with the block, in well under a second."""
        with VolumeSource(volume.directory):
            assert len(watcher_threads()) == 1
            started = time.monotonic()
        assert time.monotonic() - started < 1
        assert watcher_threads() == []

    def test_closed_source_hands_out_nothing(self, volume):
        """After the end even the last snapshot is refused; closing twice is fine."""
        with VolumeSource(volume.directory) as source:
            pass
        source.close()
        for use in (lambda: source.snapshot, source.reload):
            with pytest.raises(SourceClosedError, match="the source was closed"):
                use()

    def test_closed_by_a_subscriber(self, volume):
        """A subscriber may close the source from the watcher's own thread."""
        source = VolumeSource(volume.directory).start()
        source.subscribe(lambda _: source.close())
        volume.write_svid(CA.issue(), [CA.bundle])
        until(lambda: not watcher_threads())
        with pytest.raises(SourceClosedError):
            _ = source.snapshot

    def test_no_descriptor_is_left(self, volume):
        """Watches and files are closed, the watch shortly after the block."""
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            with VolumeSource(volume.directory):
                volume.write_svid(CA.issue(), [CA.bundle])
        until(lambda: len(os.listdir("/proc/self/fd")) <= before)


class TestProcesses:
    @pytest.mark.parametrize("clone", [pickle.dumps, copy.copy, copy.deepcopy])
    def test_is_not_copied(self, volume, clone):
        """A copy would share or lack the thread: each worker makes its own source."""
        source = VolumeSource(volume.directory)
        with pytest.raises(TypeError, match="make one in each worker process"):
            clone(source)

    def test_forked_child(self, volume):
        """In a forked child the source refuses, instead of trusting removed roots for ever."""
        answer = run_in_fresh_process(__name__, "ask_in_a_forked_child", str(volume.directory))
        assert answer == "closed closed own-source, parent in generation 1"


def ask_in_a_forked_child(directory: str) -> None:
    with VolumeSource(directory) as source:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(writer, _outcome_in_child(source, directory).encode())
            os._exit(0)
        os.waitpid(child, 0)
        os.close(writer)
        with os.fdopen(reader) as answer:
            outcome = answer.read()
        print(f"{outcome}, parent in generation {source.snapshot.generation}")  # noqa: T201


def _outcome_in_child(source, directory):
    found = []
    for use in (lambda: source.snapshot, source.reload):
        try:
            use()
            found.append("open")
        except SourceClosedError as err:
            found.append("closed" if "make one here" in str(err) else str(err))
    source.close()
    with VolumeSource(directory) as own:
        found.append("own-source" if own.snapshot.generation == 1 else "?")
    return " ".join(found)


class TestRepresentation:
    def test_repr_tells_the_identity_and_no_secret(self, volume):
        """The `repr` of a source is fit for a log."""
        with VolumeSource(volume.directory) as source:
            shown = repr(source) + repr(source.status) + repr(source.snapshot)
        assert "spiffe://example.org/ns/shop/sa/web" in shown
        assert "PRIVATE" not in shown
        assert "the source was closed" in repr(source)

    def test_status(self, quiet, volume):
        """The status says where, which layout, which generation, how long, and what is wrong."""
        status = quiet.status
        assert status.directory == str(volume.directory)
        assert (status.layout, status.generation, status.problems) == ("spiffe", 1, ())
        assert (status.last_error, status.stale_bundles) == (None, ())
        assert status.svid_not_after == quiet.snapshot.svid.not_after
        assert [(b.trust_domain, b.authorities) for b in status.bundles] == [(OWN, 1), (OTHER, 1)]
