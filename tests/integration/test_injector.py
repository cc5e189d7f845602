# SPDX-License-Identifier: Apache-2.0
"""The injector over real TLS: its files change, replicas end, strangers come."""

import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys

import pytest
import trustme
from cryptography import x509

from kubetls_sdk.exceptions import ConfigurationError
from tests.integration.injecting import Folder, ask, client_context, connect, post, running
from tests.waiting import until
from tests.webhook.injection import world
from tests.webhook.injection.world import patch_of, pod
from webhook.capabilities import Capabilities
from webhook.injection import listener


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path)


@pytest.fixture
def ready(folder):
    folder.write_all()
    with running(folder.settings()) as run:
        run.wait_ready()
        yield run


def volume_of(response):
    return next(each["value"][0] for each in patch_of(response) if each["path"] == "/spec/volumes")


def shown_certificate(run):
    pem = ssl.get_server_certificate(("127.0.0.1", run.injector.port))
    return x509.load_pem_x509_certificate(pem.encode())


class TestReviews:
    def test_over_tls(self, folder, ready):
        """A review is answered over TLS 1.3, under the authority of the serving certificate."""
        response = ask(ready, client_context(folder.authority), pod())
        assert volume_of(response) == world.volume()

    def test_many_on_a_connection(self, folder, ready):
        """A connection is kept for the next review, and ends after a request that was none."""
        connection = connect(ready, client_context(folder.authority))
        answers = [post(connection, world.review_body(pod())) for _ in range(3)]
        assert [status for status, _ in answers] == [200, 200, 200]
        made = connection.sock
        assert post(connection, b"{}")[0] == 400
        assert made is not connection.sock
        connection.close()

    def test_too_long(self, folder, ready):
        """A body of more than 3 MiB is refused by its length alone."""
        connection = connect(ready, client_context(folder.authority))
        connection.putrequest("POST", "/mutate")
        connection.putheader("content-type", "application/json")
        connection.putheader("content-length", str(4 * 1024 * 1024))
        connection.endheaders()
        assert connection.getresponse().status == 413
        connection.close()

    @pytest.mark.parametrize(
        ("sent", "answer"),
        [
            (b"\x16\x03\x01\x02\x00garbage", b"HTTP/1.1 400 "),
            (b"GET /mutate HTTP/1.1\r\nhost: x\r\n\r\n", b"HTTP/1.1 405 "),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"HTTP/1.1 400 "),
        ],
        ids=["bytes", "GET", "HTTP/2"],
    )
    def test_strangers(self, folder, ready, sent, answer):
        """What is no review over HTTP/1.1 is answered with 4xx, and the next review as ever."""
        context = client_context(folder.authority)
        with (
            socket.create_connection(("127.0.0.1", ready.injector.port), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
        ):
            connection.sendall(sent)
            assert connection.recv(100).startswith(answer)
        assert ask(ready, context, pod())["allowed"]

    def test_without_tls(self, folder, ready):
        """Plain HTTP is not spoken on this port."""
        with socket.create_connection(("127.0.0.1", ready.injector.port), timeout=10) as plain:
            plain.sendall(b"POST /mutate HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n")
            with contextlib.suppress(ConnectionError):
                assert not plain.recv(100).startswith(b"HTTP")
        assert ask(ready, client_context(folder.authority), pod())["allowed"]

    def test_many_silent_connections(self, folder, monkeypatch):
        """Whoever opens connections and says nothing loses the oldest, and locks nobody out."""
        monkeypatch.setattr(listener, "_MAX_CONNECTIONS", 3)
        folder.write_all()
        context = client_context(folder.authority)
        with running(folder.settings()) as run, contextlib.ExitStack() as stack:
            run.wait_ready()
            speaking = connect(run, context)
            assert post(speaking, world.review_body(pod()))[0] == 200
            silent = []
            for _ in range(4):
                opened = connect(run, context)
                opened.connect()
                stack.callback(opened.close)
                silent.append(opened.sock)
                assert ask(run, context, pod())["allowed"]
            silent[0].settimeout(5)
            assert silent[0].recv(1) == b""
            assert post(speaking, world.review_body(pod()))[0] == 200
            speaking.close()

    def test_a_client_that_does_not_trust_us(self, ready):
        """Nobody is served who does not trust the certificate."""
        with pytest.raises(ssl.SSLCertVerificationError):
            ask(ready, client_context(trustme.CA()), pod())


class TestStatusPort:
    def test_probes(self, ready):
        """Probes are plain and on a port of their own; reviews are not answered there."""
        assert ready.status("/healthz") == 200
        assert ready.status("/readyz") == 200
        assert ready.status("/mutate") == 404

    def test_metrics(self, folder, ready):
        """Reviews, and the expiry of the serving certificate, are metrics."""
        expiry = "kubetls_admission_certificate_not_after_timestamp_seconds"
        assert shown_certificate(ready).not_valid_after_utc.timestamp() == ready.metric(expiry)
        name = 'kubetls_admission_reviews_total{outcome="injected"}'
        ask(ready, client_context(folder.authority), pod())
        before = ready.metric(name)
        ask(ready, client_context(folder.authority), pod())
        assert ready.metric(name) == before + 1


class TestStart:
    def test_before_its_files(self, folder):
        """An injector that starts first is alive, and ready when the last file is there."""
        with running(folder.settings()) as run:
            assert (run.status("/healthz"), run.status("/readyz")) == (200, 503)
            folder.write_certificate()
            folder.write_config("zones: []")
            assert (run.status("/healthz"), run.status("/readyz")) == (200, 503)
            folder.write_all()
            run.wait_ready()
            assert ask(run, client_context(folder.authority), pod())["allowed"]

    def test_told_to_end_before(self, folder):
        """One that waits for its files ends when it is told to."""
        with running(folder.settings()) as run:
            run.stop()
            run.join()

    def test_client_names_without_authorities(self, folder):
        """Names of clients without authorities to verify them would mean nothing."""
        with pytest.raises(ConfigurationError, match="expected client authorities"):
            folder.settings(client_names=frozenset({"api"}))


class TestChanges:
    def test_a_new_certificate(self, folder, ready):
        """New connections see the new certificate; one that is open goes on."""
        connection = connect(ready, client_context(folder.authority))
        assert post(connection, world.review_body(pod()))[0] == 200
        old, made = shown_certificate(ready).serial_number, connection.sock
        folder.write_certificate()
        until(lambda: shown_certificate(ready).serial_number != old)
        assert post(connection, world.review_body(pod()))[0] == 200
        assert made is connection.sock
        connection.close()

    def test_a_certificate_that_cannot_be_used(self, folder, ready):
        """The last good certificate stays; a metric says that the files are faulty."""
        metric = 'kubetls_admission_configuration_faulty{file="certificate"}'
        old = shown_certificate(ready).serial_number
        assert ready.metric(metric) == 0
        for files in ({"tls.crt": b"x", "tls.key": b"y"}, {}):
            folder.write_serving(files)
            until(lambda: ready.metric(metric) == 1)
            assert shown_certificate(ready).serial_number == old
        folder.write_certificate()
        until(lambda: ready.metric(metric) == 0)
        assert shown_certificate(ready).serial_number != old

    def test_a_new_configuration(self, folder, ready):
        """A new configuration decides about the next review; a bad one changes nothing."""
        context = client_context(folder.authority)
        folder.write_config("nonsense")
        metric = 'kubetls_admission_configuration_faulty{file="platform"}'
        until(lambda: ready.metric(metric) == 1)
        assert volume_of(ask(ready, context, pod())) == world.volume()
        folder.write_config(
            "version: 1\nzones: [{name: default, trustDomain: new.example}]\n"
            "namespaces: [{names: [shop]}]\n"
        )
        until(lambda: "new.example" in json.dumps(volume_of(ask(ready, context, pod()))))
        assert ready.metric(metric) == 0

    def test_new_capabilities(self, folder, ready):
        """What the cluster can do decides the mode, from its document on, and after its end."""
        context = client_context(folder.authority)
        folder.write_capabilities(Capabilities(pod_certificates=None).to_json())
        until(lambda: "secret" in volume_of(ask(ready, context, pod())))
        folder.write_capabilities(Capabilities().to_json())
        until(lambda: "projected" in volume_of(ask(ready, context, pod())))


class TestClientCertificates:
    @pytest.fixture
    def authority(self):
        return trustme.CA()

    @pytest.fixture
    def verifying(self, folder, authority, tmp_path):
        folder.write_all()
        path = tmp_path / "clients.pem"
        authority.cert_pem.write_to_path(path)
        names = frozenset({"api.example"})
        with running(folder.settings(client_authorities=path, client_names=names)) as run:
            run.wait_ready()
            yield run

    def test_the_api_server(self, folder, authority, verifying):
        """Where it is asked for, the API server's certificate opens the door."""
        for client in (
            authority.issue_cert("api.example"),
            authority.issue_cert(common_name="api.example"),
        ):
            assert ask(verifying, client_context(folder.authority, client), pod())["allowed"]

    @pytest.mark.parametrize("who", ["nobody", "another name", "another authority"])
    def test_others(self, folder, authority, verifying, who):
        """Without a certificate, with one of another name or authority, nothing is answered."""
        client = {
            "nobody": None,
            "another name": authority.issue_cert("node.example", common_name="node.example"),
            "another authority": trustme.CA().issue_cert("api.example"),
        }[who]
        with pytest.raises(OSError):  # noqa: PT011 - closed, reset or an alert, as it comes
            ask(verifying, client_context(folder.authority, client), pod())


class TestEnd:
    def test_open_connections(self, folder):
        """A replica that ends answers what comes meanwhile, and sends its clients elsewhere."""
        folder.write_all()
        with running(folder.settings(drain_seconds=1.5)) as run:
            run.wait_ready()
            connection = connect(run, client_context(folder.authority))
            assert post(connection, world.review_body(pod()))[0] == 200
            made = connection.sock
            run.stop()
            until(lambda: run.status("/readyz") == 503)
            assert post(connection, world.review_body(pod()))[0] == 200
            assert made is not connection.sock
            assert ask(run, client_context(folder.authority), pod())["allowed"]
            run.join()

    def test_by_a_signal(self, folder):
        """A process of its own serves, and ends in order at SIGTERM."""
        folder.write_all()
        settings = folder.settings()
        program = (
            "import asyncio, logging, pathlib, sys\n"
            "from webhook.injection.serve import InjectorSettings, run\n"
            "logging.basicConfig(level='INFO')\n"
            "root = pathlib.Path(sys.argv[1])\n"
            "asyncio.run(run(InjectorSettings(config=root / 'config/platform.yaml',\n"
            "    capabilities=root / 'none', serving=root / 'serving', host='127.0.0.1',\n"
            "    port=0, status_port=0, drain_seconds=0)))\n"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(settings.serving.parent)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for line in process.stderr:
            if "answering admission reviews" in line:
                break
        os.kill(process.pid, signal.SIGTERM)
        with process.stderr:
            assert process.wait(20) == 0
