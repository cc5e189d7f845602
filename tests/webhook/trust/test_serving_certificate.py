# SPDX-License-Identifier: Apache-2.0
"""The webhook's own certificate: renewed with no moment at which an API server would refuse it."""

from __future__ import annotations

import base64
import ipaddress
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.x509 import verification

from tests.webhook.api_double import ApiDouble
from tests.webhook.trust.world import NAMESPACE, START, Clock, Killed, MortalApi
from webhook.api.errors import ConflictError
from webhook.api.resources import MUTATING_WEBHOOK_CONFIGURATIONS as CONFIGURATIONS
from webhook.api.resources import SECRETS
from webhook.trust.serving_certificate import ServingError, ServingKeeper, dialled_names
from webhook.trust.serving_pair import VALIDITY, ServingNames, make_pair
from webhook.trust.serving_state import SETTLING, ServingState

pytestmark = pytest.mark.anyio

SERVICE = {"service": {"namespace": NAMESPACE, "name": "kubetls-webhook", "path": "/mutate"}}
HOST = "kubetls-webhook.kubetls-system.svc"
DAY = timedelta(days=1)


class Cluster:
    """A configuration, replicas that serve any Secret they ever saw, and an API server's checks."""

    def __init__(self, *, client=SERVICE, annotations=None):
        self.api = ApiDouble()
        self.clock = Clock()
        self.served = {}
        self.api.put(
            CONFIGURATIONS,
            {
                "metadata": {"name": "kubetls-injector", "annotations": annotations or {}},
                "webhooks": [{"name": "inject.example", "clientConfig": dict(client)}],
            },
        )

    def keeper(self, api=None):
        return ServingKeeper(api or self.api, clock=self.clock)

    async def keep(self, api=None):
        return await self.keeper(api).keep()

    @property
    def configuration(self):
        return self.api.find(CONFIGURATIONS, "kubetls-injector")

    def secret(self):
        secret = self.api.find(SECRETS, "kubetls-webhook-tls", NAMESPACE)
        if secret is None:
            return {}
        return {key: base64.b64decode(value) for key, value in secret["data"].items()}

    def authorities(self):
        text = self.configuration["webhooks"][0]["clientConfig"].get("caBundle", "")
        return x509.load_pem_x509_certificates(base64.b64decode(text)) if text else []

    def look(self):
        """Each certificate that a replica may serve is one that the API server accepts."""
        if "tls.crt" in self.secret():
            certificate = x509.load_pem_x509_certificate(self.secret()["tls.crt"])
            self.served[certificate.serial_number] = certificate
        if not self.authorities():
            return
        verifier = (
            verification.PolicyBuilder()
            .store(verification.Store(self.authorities()))
            .time(self.clock.now)
            .build_server_verifier(x509.DNSName(HOST))
        )
        for certificate in self.served.values():
            if self.clock.now < certificate.not_valid_after_utc:
                verifier.verify(certificate, [])

    async def renew(self, api=None):
        """Let time pass from the first certificate to the end of its renewal."""
        for age in (0 * DAY, 61 * DAY, 61 * DAY + SETTLING, 91 * DAY):
            self.clock.now = max(self.clock.now, START + age)
            await self.keep(api)


@pytest.fixture
def cluster():
    return Cluster()


class TestFirstCertificate:
    async def test_it_is_for_what_the_api_server_dials(self, cluster):
        """Made, stored and published in one go."""
        state = await cluster.keep()
        assert state.current.names == ServingNames((HOST,))
        assert len(cluster.authorities()) == 1
        cluster.look()
        assert len(cluster.served) == 1

    async def test_the_ca_has_no_key_any_more(self, cluster):
        """The Secret holds the key of the certificate, and no other one."""
        await cluster.keep()
        assert set(cluster.secret()) == {"tls.crt", "tls.key", "ca.crt"}
        key = cluster.secret()["tls.key"]
        assert key.count(b"PRIVATE KEY") == 2
        (authority,) = cluster.authorities()
        leaf = x509.load_pem_x509_certificate(cluster.secret()["tls.crt"])
        assert leaf.public_key() != authority.public_key()

    async def test_nothing_more_is_written_afterwards(self, cluster):
        """A second look finds all in order."""
        await cluster.keep()
        before = len(cluster.api.calls)
        await cluster.keep()
        assert {call[0] for call in cluster.api.calls[before:]} == {"get"}

    async def test_every_webhook_of_the_configuration_gets_the_bundle(self, cluster):
        """And what else is there stays."""
        configuration = cluster.configuration
        configuration["webhooks"].append({"name": "second", "clientConfig": dict(SERVICE)})
        configuration["webhooks"][0]["failurePolicy"] = "Fail"
        cluster.api.put(CONFIGURATIONS, configuration)
        await cluster.keep()
        first, second = cluster.configuration["webhooks"]
        assert first["clientConfig"]["caBundle"] == second["clientConfig"]["caBundle"]
        assert first["failurePolicy"] == "Fail"


class TestRenewal:
    async def test_step_by_step(self, cluster):
        """Both CAs first, then the new certificate, then the new CA alone."""
        await cluster.keep()
        old = cluster.secret()["tls.crt"]
        cluster.clock.pass_(61 * DAY)
        await cluster.keep()
        cluster.look()
        assert len(cluster.authorities()) == 2
        assert cluster.secret()["tls.crt"] == old
        cluster.clock.pass_(SETTLING - timedelta(seconds=1))
        await cluster.keep()
        assert cluster.secret()["tls.crt"] == old
        cluster.clock.pass_(timedelta(seconds=1))
        await cluster.keep()
        cluster.look()
        assert cluster.secret()["tls.crt"] != old
        assert "next.key" not in cluster.secret()
        assert len(cluster.authorities()) == 2
        cluster.clock.pass_(29 * DAY)
        await cluster.keep()
        assert len(cluster.authorities()) == 1
        cluster.look()

    async def test_not_before_two_thirds_of_its_life(self, cluster):
        """Ninety days: after sixty."""
        await cluster.keep()
        cluster.clock.pass_(59 * DAY)
        assert (await cluster.keep()).next is None

    async def test_a_bundle_that_somebody_replaced_delays_the_switch(self, cluster):
        """The new certificate is served only after its CA was read back."""
        await cluster.keep()
        first = cluster.configuration["webhooks"][0]["clientConfig"]["caBundle"]
        cluster.clock.pass_(61 * DAY)
        await cluster.keep()
        cluster.clock.pass_(SETTLING - timedelta(seconds=1))
        configuration = cluster.configuration
        configuration["webhooks"][0]["clientConfig"]["caBundle"] = first
        cluster.api.put(CONFIGURATIONS, configuration)
        await cluster.keep()
        assert len(cluster.authorities()) == 2
        cluster.clock.pass_(timedelta(seconds=1))
        state = await cluster.keep()
        assert state.next is not None

    async def test_other_names_are_a_reason_to_renew(self, cluster):
        """The Service was renamed: what is served goes on until the new one is known."""
        await cluster.keep()
        configuration = cluster.configuration
        configuration["webhooks"][0]["clientConfig"]["service"]["name"] = "renamed"
        cluster.api.put(CONFIGURATIONS, configuration)
        state = await cluster.keep()
        assert state.next.names == ServingNames(("renamed.kubetls-system.svc",))


async def renewed(dies_at, *, after_effect):
    """A first certificate and its renewal, by a leader that dies once."""
    cluster = Cluster()
    mortal = MortalApi(cluster.api, dies_at, after_effect=after_effect, seen=cluster.look)
    try:
        await cluster.renew(mortal)
    except Killed:
        await cluster.renew(MortalApi(cluster.api, seen=cluster.look))
    return cluster, mortal.count


class TestKilledLeader:
    @pytest.mark.parametrize("after_effect", [False, True], ids=["before", "after"])
    @pytest.mark.parametrize("dies_at", range(32))
    async def test_no_admission_fails(self, dies_at, after_effect):
        """Wherever the leader dies, all that was ever served verifies until it ends."""
        cluster, _ = await renewed(dies_at, after_effect=after_effect)
        assert len(cluster.authorities()) == 1
        assert len(cluster.served) == 2
        assert set(cluster.secret()) == {"tls.crt", "tls.key", "ca.crt"}

    async def test_the_walk_has_no_more_calls(self):
        """The range above covers a whole renewal."""
        _, count = await renewed(None, after_effect=False)
        assert count == 32

    async def test_a_leader_of_yesterday_cannot_take_a_ca_away(self, cluster):
        """It read the configuration before the Secret, so its write comes too late."""
        await cluster.keep()
        cluster.clock.pass_(61 * DAY)
        keeper = cluster.keeper()
        old = cluster.configuration
        state = ServingState.parse(cluster.secret(), {})
        await cluster.keep()
        old["webhooks"][0]["clientConfig"]["caBundle"] = ""
        with pytest.raises(ConflictError):
            await keeper._publish(old, state)


class TestWornOut:
    @pytest.mark.parametrize(
        "spoil",
        [
            pytest.param(lambda data: data.update({"tls.crt": "bm9uZQ=="}), id="no certificate"),
            pytest.param(lambda data: data.pop("tls.key"), id="no key"),
            pytest.param(lambda data: data.update({"ca.crt": ""}), id="no CA"),
            pytest.param(lambda data: data.update({"tls.key": "%"}), id="no base64"),
        ],
    )
    async def test_what_is_worth_nothing_is_made_anew_at_once(self, cluster, spoil):
        """There is nobody to wait for."""
        await cluster.keep()
        secret = cluster.api.find(SECRETS, "kubetls-webhook-tls", NAMESPACE)
        spoil(secret["data"])
        cluster.api.put(SECRETS, secret)
        cluster.served.clear()
        await cluster.keep()
        cluster.look()
        assert len(cluster.served) == 1

    async def test_one_that_has_ended_is_made_anew_at_once(self, cluster):
        """The leader was away for three months."""
        await cluster.keep()
        cluster.look()
        cluster.clock.pass_(VALIDITY)
        await cluster.keep()
        cluster.look()
        assert len(cluster.authorities()) == 1

    async def test_deleting_the_secret_cuts_off_a_stolen_key(self, cluster):
        """The old CA leaves the bundle with the old key."""
        await cluster.keep()
        (old,) = cluster.authorities()
        cluster.api.remove(SECRETS, "kubetls-webhook-tls", NAMESPACE)
        await cluster.keep()
        assert old not in cluster.authorities()


class TestNotOurs:
    async def test_without_a_configuration_there_is_nothing_to_do(self):
        """A MutatingAdmissionPolicy injects, or nobody."""
        api = ApiDouble()
        assert await ServingKeeper(api).keep() is None
        assert api.all(SECRETS) == []

    @pytest.mark.parametrize(
        "annotation",
        ["cert-manager.io/inject-ca-from", "cert-manager.io/inject-ca-from-secret"],
    )
    async def test_cert_manager_does_it_where_it_is_asked_to(self, annotation):
        """Neither Secret nor bundle is touched."""
        cluster = Cluster(annotations={annotation: "kubetls-system/webhook"})
        assert await cluster.keep() is None
        assert cluster.secret() == {}
        assert cluster.authorities() == []

    async def test_a_secret_of_somebody_is_left_alone(self, cluster):
        """An administrator's own certificate, say."""
        metadata = {"name": "kubetls-webhook-tls", "namespace": NAMESPACE}
        cluster.api.put(SECRETS, {"metadata": metadata, "data": {"tls.crt": ""}})
        with pytest.raises(ServingError, match="somebody else's"):
            await cluster.keep()
        assert cluster.secret() == {"tls.crt": b""}


class TestDialledNames:
    @pytest.mark.parametrize(
        ("client", "names"),
        [
            pytest.param(SERVICE, ServingNames((HOST,)), id="service"),
            pytest.param(
                {"url": "https://127.0.0.1:8443/mutate"},
                ServingNames((), (ipaddress.ip_address("127.0.0.1"),)),
                id="address",
            ),
            pytest.param(
                {"url": "https://webhook.example:8443/mutate"},
                ServingNames(("webhook.example",)),
                id="URL",
            ),
        ],
    )
    async def test_they_are_those_of_the_configuration(self, client, names):
        """A Service's name in its namespace, or the host of a URL; the certificate has them."""
        assert dialled_names(Cluster(client=client).configuration) == names
        assert (await Cluster(client=client).keep()).current.names == names

    @pytest.mark.parametrize("webhooks", [None, [], [{"clientConfig": {}}]])
    def test_a_configuration_that_dials_nobody_is_an_error(self, webhooks):
        """A certificate for no name is none."""
        with pytest.raises(ServingError, match="dials nobody"):
            dialled_names({"webhooks": webhooks})


class TestPair:
    def test_no_repr_shows_the_key(self):
        """Only the serial number."""
        pair, _ = make_pair(ServingNames((HOST,)), now=START)
        assert "PRIVATE" not in repr(pair)
        assert "PRIVATE" not in repr(ServingState(pair))

    def test_certificate_and_ca_end_together(self):
        """So a CA is needed exactly as long as it is valid."""
        pair, authority = make_pair(ServingNames((HOST,)), now=START)
        assert pair.certificate.not_valid_after_utc == authority.not_valid_after_utc
