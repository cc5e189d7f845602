# SPDX-License-Identifier: Apache-2.0
"""A replica of the bundle endpoint as it is assembled: over real TLS, with both profiles."""

from __future__ import annotations

import asyncio

import pytest
import trustme

from kubetls_sdk.exceptions import ConfigurationError, NotReadyError
from kubetls_sdk.federation import Endpoint, Profile
from kubetls_sdk.federation.fetch import FetchError, fetch_bundle
from kubetls_sdk.testing import KubeletVolume
from tests.waiting import eventually
from tests.webhook.endpoint.world import OTHER_PATH, PATH, PLATFORM
from tests.webhook.replicas import running, status
from webhook.api import Api
from webhook.api.errors import UnreachableError
from webhook.api.resources import CLUSTER_TRUST_BUNDLES, CLUSTER_TRUST_BUNDLES_V1BETA1
from webhook.endpoint import run as run_module
from webhook.endpoint.run import EndpointReplica
from webhook.endpoint.settings import EndpointSettings
from webhook.exceptions import WebhookError

pytestmark = pytest.mark.anyio

ACCOUNT = "/ns/kubetls-system/sa/kubetls-bundle-endpoint"


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "platform.yaml"
    path.write_text(PLATFORM)
    return path


@pytest.fixture
def web(tmp_path):
    """The web's authority, which issues into the folder that is mounted."""
    return Web(tmp_path / "web")


@pytest.fixture
def settings(config, web, tmp_path, world):
    volume = tmp_path / "volume"
    KubeletVolume(volume).write_svid(world.ca.issue(ACCOUNT), [world.ca.bundle])
    web.issue()
    return {
        "config": config,
        "web_certificate": web.folder,
        "spiffe_volume": volume,
        "host": "127.0.0.1",
        "drain_seconds": 0,
        **dict.fromkeys(("web_port", "spiffe_port", "status_port"), 0),
    }


@pytest.fixture(autouse=True)
def connected(world, monkeypatch):
    """Whoever connects gets the API server in memory."""

    async def connect(_cls, *_args, **_options):
        return world.api

    monkeypatch.setattr(Api, "connect", classmethod(connect))


class Web:
    """An authority of the web and what it issued."""

    def __init__(self, folder):
        self.folder = folder
        self.roots = folder.parent / "roots.pem"
        folder.mkdir()

    def issue(self):
        """Replace certificate and authority."""
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.roots)
        issued = authority.issue_cert("127.0.0.1")
        issued.private_key_pem.write_to_path(self.folder / "tls.key")
        issued.cert_chain_pems[0].write_to_path(self.folder / "tls.crt")


async def fetched(replica, profile, ca, *, roots=None, path=PATH, domain=None):
    """What a partner gets."""
    (port,) = [each.bound_port for each in replica.listeners if each.profile is profile]
    is_web = profile is Profile.WEB
    endpoint = Endpoint(
        url=f"https://127.0.0.1:{port}{path}",
        profile=profile,
        ca_file=roots if is_web else None,
        spiffe_id=None if is_web else ca.spiffe_id(ACCOUNT),
    )
    known = None if is_web else ca.bundle
    return (await fetch_bundle(domain or ca.trust_domain, endpoint, known=known)).bundle


class TestServe:
    async def test_both_profiles(self, settings, world, web):
        """A partner gets the same by either profile."""
        replica = EndpointReplica(EndpointSettings(**settings))
        async with running(replica):
            by_web = await fetched(replica, Profile.WEB, world.ca, roots=web.roots)
            by_spiffe = await fetched(replica, Profile.SPIFFE, world.ca)
            assert await status(replica.status_port, "/readyz") == 200
            assert await status(replica.status_port, "/metrics") == 200
        assert by_web == by_spiffe
        assert by_web.authorities == world.ca.bundle.authorities

    async def test_another_zone(self, settings, world, web):
        """One server's identity vouches for the bundles of the other zones too."""
        domain = world.other.trust_domain
        replica = EndpointReplica(EndpointSettings(**settings))
        async with running(replica):
            found = await fetched(replica, Profile.SPIFFE, world.ca, path=OTHER_PATH, domain=domain)
        assert found.authorities == world.other.bundle.authorities

    async def test_unknown_path(self, settings, world):
        """A partner's path is nothing."""
        replica = EndpointReplica(EndpointSettings(**settings))
        async with running(replica):
            with pytest.raises(FetchError, match="404"):
                await fetched(replica, Profile.SPIFFE, world.ca, path="/bundles/partner.example")

    @pytest.mark.parametrize("left_out", ["web_certificate", "spiffe_volume"])
    async def test_one_profile(self, settings, left_out):
        """A profile that is not asked for has no listener."""
        replica = EndpointReplica(EndpointSettings(**{**settings, left_out: None}))
        async with running(replica):
            assert len(replica.listeners) == 1

    def test_no_profile(self, settings):
        """An endpoint without any is a mistake."""
        with pytest.raises(ConfigurationError, match="got neither"):
            EndpointSettings(config=settings["config"])

    async def test_new_certificate(self, settings, world, web, monkeypatch):
        """A renewed web certificate is presented without a restart."""
        monkeypatch.setattr("kubetls_sdk.federation.listener._POLL_SECONDS", 0.02)
        replica = EndpointReplica(EndpointSettings(**settings))
        async with running(replica):
            web.issue()
            async with asyncio.timeout(5):
                while not await _is_fetched(replica, world.ca, web.roots):  # noqa: ASYNC110
                    await asyncio.sleep(0.02)

    async def test_new_configuration(self, settings, world, config):
        """A zone that is taken out of the configuration is gone without a restart."""
        replica = EndpointReplica(EndpointSettings(**settings))
        async with running(replica):
            text = config.read_text().splitlines(keepends=True)
            config.write_text("".join(line for line in text if "other.example" not in line))
            zones = replica._zones
            await eventually(lambda: zones.publication_at(OTHER_PATH) is None)
            assert (await fetched(replica, Profile.SPIFFE, world.ca)).authorities

    async def test_end(self, settings, monkeypatch):
        """Told to end it is not ready any more, but answers for a while."""
        replica = EndpointReplica(EndpointSettings(**settings | {"drain_seconds": 0.3}))
        stop = asyncio.Event()
        serving = asyncio.create_task(replica.serve(stop))
        await eventually(lambda: replica.is_ready)
        stop.set()
        await eventually(lambda: not replica.is_ready)
        assert await status(replica.status_port, "/readyz") == 503
        assert all(listener.bound_port for listener in replica.listeners)
        await asyncio.wait_for(serving, 5)
        assert not any(listener.bound_port for listener in replica.listeners)


class TestStart:
    async def test_no_trust_bundles_in_the_cluster(self, settings, world):
        """Without the API it ends, and says what is missing."""
        world.api.served = set()
        with pytest.raises(ConfigurationError, match="serves no ClusterTrustBundles"):
            await EndpointReplica(EndpointSettings(**settings)).serve(asyncio.Event())

    async def test_older_cluster(self, settings, world):
        """Where v1beta1 alone is served, that is read."""
        world.api.served = {CLUSTER_TRUST_BUNDLES_V1BETA1}
        world.resource = CLUSTER_TRUST_BUNDLES_V1BETA1
        world.publish()
        replica = EndpointReplica(EndpointSettings(**settings))
        async with running(replica):
            assert (await fetched(replica, Profile.SPIFFE, world.ca)).authorities

    async def test_upgraded_cluster(self, settings, world, monkeypatch):
        """When another version is served it ends, to begin anew with that."""
        monkeypatch.setattr(run_module, "_REDISCOVER_SECONDS", 0.02)
        world.api.served = {CLUSTER_TRUST_BUNDLES_V1BETA1}
        replica = EndpointReplica(EndpointSettings(**settings))
        serving = asyncio.create_task(replica.serve(asyncio.Event()))
        await eventually(lambda: replica.is_ready)
        world.api.served = {CLUSTER_TRUST_BUNDLES}
        with pytest.raises(ExceptionGroup) as caught:
            await asyncio.wait_for(serving, 5)
        assert caught.group_contains(WebhookError, match="another version")

    async def test_unreachable(self, settings, world):
        """While the API server cannot be asked it is alive and not ready, and listens nowhere."""
        world.api.fail("serves", UnreachableError("away"), times=None)
        replica = EndpointReplica(EndpointSettings(**settings))
        stop = asyncio.Event()
        serving = asyncio.create_task(replica.serve(stop))
        await eventually(lambda: world.api.calls_of("serves"))
        assert await status(replica.status_port, "/healthz") == 200
        assert await status(replica.status_port, "/readyz") == 503
        assert replica.listeners == ()
        stop.set()
        await asyncio.wait_for(serving, 5)

    async def test_without_svid(self, settings, tmp_path, monkeypatch):
        """A volume without an SVID ends the start, and nothing is served without TLS."""
        monkeypatch.setattr(run_module, "_SVID_SECONDS", 0.1)
        (tmp_path / "empty").mkdir()
        made = EndpointSettings(**settings | {"spiffe_volume": tmp_path / "empty"})
        with pytest.raises(NotReadyError):
            await EndpointReplica(made).serve(asyncio.Event())

    async def test_unusable_certificate(self, settings, web):
        """A web certificate that is none ends the start."""
        (web.folder / "tls.crt").write_text("none")
        with pytest.raises(ConfigurationError, match="a certificate and its key"):
            await EndpointReplica(EndpointSettings(**settings)).serve(asyncio.Event())


async def _is_fetched(replica, ca, roots):
    try:
        return await fetched(replica, Profile.WEB, ca, roots=roots)
    except FetchError:
        return None
