# SPDX-License-Identifier: Apache-2.0
"""Replicas as they are assembled: from the configuration file to the answers, and to their end."""

from __future__ import annotations

import asyncio

import pytest

from kubetls_sdk.exceptions import ConfigurationError
from tests.waiting import eventually
from tests.webhook.api_double import ApiDouble
from tests.webhook.replicas import running, status
from tests.webhook.secrets.test_issuer import AsSecretIssuer
from tests.webhook.signing.world import OTHER_SIGNER, PLATFORM, SECRET
from webhook.api import Api
from webhook.api.resources import (
    LEASES,
    POD_CERTIFICATE_REQUESTS,
    POD_CERTIFICATE_REQUESTS_V1BETA1,
    PODS,
    SECRETS,
)
from webhook.exceptions import WebhookError
from webhook.secrets.run import SecretIssuerReplica, SecretIssuerSettings
from webhook.signing import run as run_module
from webhook.signing.run import SignerReplica, SignerSettings

pytestmark = pytest.mark.anyio


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "platform.yaml"
    path.write_text(PLATFORM)
    return path


@pytest.fixture
def settings(config):
    return {"config": config, "identity": "one", "host": "127.0.0.1", "status_port": 0}


@pytest.fixture
def connected(world, monkeypatch):
    """Whoever connects gets the double, as the secret issuer where that matters."""

    async def connect(_cls, *_args, **_options):
        return AsSecretIssuer(world.api)

    monkeypatch.setattr(Api, "connect", classmethod(connect))
    for name in ("__aenter__", "__aexit__"):
        monkeypatch.setattr(AsSecretIssuer, name, getattr(ApiDouble, name), raising=False)
    return world


class TestSigner:
    async def test_answers(self, connected, settings):
        """A replica alone makes its authorities as the leader, and answers with them."""
        request = connected.request(connected.add_pod())
        replica = SignerReplica(SignerSettings(**settings, keeps_serving=False))
        async with running(replica):
            await connected.answered(request)
            assert await status(replica.status_port, "/readyz") == 200
            assert await status(replica.status_port, "/healthz") == 200
            assert await status(replica.status_port, "/metrics") == 200
        assert connected.verdict(request) == {"Issued": "Issued"}

    async def test_end(self, connected, settings):
        """A replica that has ended is not ready, and has left its group."""
        replica = SignerReplica(SignerSettings(**settings, leads=False))
        async with running(replica):
            assert [each["metadata"]["name"] for each in connected.api.all(LEASES)]
        assert not replica.is_ready
        assert connected.api.all(LEASES) == []

    async def test_end_before_the_start(self, connected, settings):
        """A replica that cannot start, since the API server does not answer, ends when told to."""
        connected.api.delay = asyncio.Event().wait
        replica = SignerReplica(SignerSettings(**settings, leads=False))
        stop = asyncio.Event()
        serving = asyncio.create_task(replica.serve(stop))
        await eventually(lambda: connected.api.calls)
        assert await status(replica.status_port, "/readyz") == 503
        connected.api.delay = None
        stop.set()
        await asyncio.wait_for(serving, 5)

    async def test_a_watch_that_fails(self, connected, settings):
        """A part that ends by a mistake of ours ends the process: it would see nothing any more."""
        replica = SignerReplica(SignerSettings(**settings, leads=False))
        serving = asyncio.create_task(replica.serve(asyncio.Event()))
        await eventually(lambda: replica.is_ready)
        connected.api.fail("watch", RuntimeError("a bug"), resource=PODS, times=1)
        connected.api.disconnect()
        with pytest.raises(ExceptionGroup) as caught:
            await asyncio.wait_for(serving, 10)
        assert caught.group_contains(WebhookError, match="all begins anew")

    async def test_new_zone(self, connected, settings, config):
        """A zone that is added to the configuration is served without a restart."""
        config.write_text(PLATFORM.replace("  - {name: other, trustDomain: other.example}\n", ""))
        replica = SignerReplica(SignerSettings(**settings, keeps_serving=False))
        async with running(replica):
            config.write_text(PLATFORM.replace("zones: [default]}", "zones: [other]}"))
            request = connected.request(connected.add_pod(namespace="plain"), signer=OTHER_SIGNER)
            await eventually(lambda: connected.verdict(request), within=10)
        assert connected.verdict(request) == {"Issued": "Issued"}

    async def test_api_server_without_pod_certificates(self, connected, settings):
        """Without pod certificates, signing requests are answered."""
        connected.api.served = set()
        request = connected.signing_request(connected.add_secret_pod())
        async with running(SignerReplica(SignerSettings(**settings, leads=False))):
            assert connected.verdict(request) == {}

    async def test_upgraded_api_server(self, connected, settings, monkeypatch):
        """When another version is served, the process ends, to begin anew with that."""
        monkeypatch.setattr(run_module, "_REDISCOVER_SECONDS", 0.05)
        connected.api.served = {POD_CERTIFICATE_REQUESTS_V1BETA1}
        replica = SignerReplica(SignerSettings(**settings, leads=False))
        serving = asyncio.create_task(replica.serve(asyncio.Event()))
        await eventually(lambda: replica.is_ready)
        connected.api.served = {POD_CERTIFICATE_REQUESTS}
        with pytest.raises(ExceptionGroup) as caught:
            await asyncio.wait_for(serving, 5)
        assert caught.group_contains(WebhookError, match="another version")

    async def test_configuration_that_is_none(self, connected, settings, config):
        """Without a valid configuration nothing starts."""
        config.write_text("version: 2")
        with pytest.raises(ConfigurationError, match=r"platform\.yaml"):
            await SignerReplica(SignerSettings(**settings)).serve(asyncio.Event())

    def test_secret_issuer(self, settings):
        """The account that may ask for others' pods is the one of our manifests."""
        made = SignerSettings(**settings, namespace="system")
        assert made.secret_issuer_user == "system:serviceaccount:system:kubetls-secret-issuer"
        assert SignerSettings(**settings, secret_issuer="").secret_issuer_user == ""


class TestSecretIssuer:
    async def test_both_parts(self, connected, settings):
        """Signer and secret issuer together give a pod its Secret."""
        connected.add_secret_pod()
        signer = SignerReplica(SignerSettings(**settings, keeps_serving=False))
        issuer = SecretIssuerReplica(SecretIssuerSettings(**settings))
        async with running(signer), running(issuer):
            await eventually(lambda: connected.api.find(SECRETS, SECRET, "shop"), within=15)
            assert await status(issuer.status_port, "/readyz") == 200
        assert not issuer.is_ready

    async def test_new_rule(self, connected, settings, config):
        """A namespace that is allowed Secret mode later gets its Secrets without a restart."""
        connected.add_secret_pod(namespace="plain")
        signer = SignerReplica(SignerSettings(**settings, keeps_serving=False))
        issuer = SecretIssuerReplica(SecretIssuerSettings(**settings))
        async with running(signer), running(issuer):
            await eventually(lambda: ("web", "SecretNotWritten") in connected.events(), within=15)
            config.write_text(PLATFORM.replace("[plain]", "[plain], modes: [secret]"))
            await eventually(lambda: connected.api.find(SECRETS, SECRET, "plain"), within=15)
