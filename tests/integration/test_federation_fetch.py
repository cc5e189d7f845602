# SPDX-License-Identifier: Apache-2.0
"""One fetch over real https, from endpoints of both profiles, honest and not."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import random
import ssl
import time

import pytest
import trustme

from kubetls_sdk.federation.bundle_document import MAX_DOCUMENT_BYTES
from kubetls_sdk.federation.fetch import MAX_REDIRECTS, FetchError, fetch_bundle
from kubetls_sdk.federation.partner import Endpoint, Profile
from kubetls_sdk.spiffe_id import SpiffeId
from kubetls_sdk.testing import DevelopmentCA
from tests.integration import bundle_server
from tests.integration.bundle_server import BundleServer, edited, redirect_to, web_context
from tests.integration.origin import stock_server_context

SERVER_PATH = "/ns/spire/sa/bundles"


@pytest.fixture(scope="module")
def partner():
    return DevelopmentCA("partner.example")


@pytest.fixture
def web(web_ca, partner):
    """An endpoint of profile https_web."""
    with BundleServer.running(web_context(web_ca, "localhost")) as server:
        server.publish(partner.bundle, sequence=7, refresh_hint=120)
        yield server


def fetch(server, domain, *, known=None, timeout=5.0, url=None, **endpoint):
    made = Endpoint(url=url or server.url, **endpoint)
    return asyncio.run(
        fetch_bundle(domain.trust_domain, made, known=known, timeout_seconds=timeout)
    )


@pytest.fixture
def fetch_web(web, partner, roots):
    def run(**options):
        return fetch(web, partner, **{"profile": Profile.WEB, "ca_file": roots, **options})

    return run


class TestWeb:
    def test_bundle(self, web, partner, fetch_web):
        """The bundle of the configured domain comes from exactly the URL, with its numbers."""
        found = fetch_web()
        assert found.bundle.trust_domain == partner.trust_domain
        assert found.bundle.authorities == partner.bundle.authorities
        assert (found.bundle.sequence, found.bundle.refresh_hint, found.ignored) == (7, 120, 0)
        assert web.paths == ["/bundle.json?v=1"]

    def test_presents_nothing(self, web, fetch_web, monkeypatch, tmp_path):
        """No certificate of ours, no credential and no proxy of the environment is used."""
        netrc = tmp_path / "netrc"
        netrc.write_text("machine localhost login a password b\n")
        netrc.chmod(0o600)
        monkeypatch.setenv("NETRC", str(netrc))
        monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
        fetch_web()
        assert web.client_certificates == [None]
        assert "authorization" not in {name.lower() for name in web.fields[0]}

    def test_web_roots(self, fetch_web):
        """Without a file of roots the web's decide."""
        with pytest.raises(FetchError, match=r"(?i)certificate"):
            fetch_web(ca_file=None)

    def test_roots_as_text(self, web, fetch_web, roots):
        """Roots may be given as text, too, and are then the only ones."""
        found = fetch_web(ca_file=None, roots=roots.read_text())
        assert found.bundle.sequence == 7
        others = trustme.CA().cert_pem.bytes().decode()
        with pytest.raises(FetchError, match=r"(?i)certificate"):
            fetch_web(ca_file=None, roots=others)

    def test_partner_is_not_a_web_root(self, partner, fetch_web, tmp_path):
        """The partner's own authorities vouch for no web server."""
        chain = partner.issue(SERVER_PATH, dns_names=["localhost"])
        with BundleServer.running(stock_server_context(chain)) as server:
            with pytest.raises(FetchError, match=r"(?i)certificate"):
                fetch_web(url=server.url)
            assert server.paths == []

    def test_other_host(self, web_ca, fetch_web):
        """The certificate has to be of the host of the URL."""
        with BundleServer.running(web_context(web_ca, "other.test")) as other:
            with pytest.raises(FetchError, match=r"(?i)certificate"):
                fetch_web(url=other.url)
            assert other.paths == []


@pytest.fixture
def spiffe(partner):
    """An endpoint of profile https_spiffe: its URL's host is in no certificate."""
    with BundleServer.running(stock_server_context(partner.issue(SERVER_PATH))) as server:
        server.publish(partner.bundle)
        yield server


@pytest.fixture
def fetch_spiffe(spiffe, partner):
    def run(**options):
        wanted = {
            "profile": Profile.SPIFFE,
            "spiffe_id": partner.spiffe_id(SERVER_PATH),
            "known": partner.bundle,
        }
        return fetch(spiffe, partner, **{**wanted, **options})

    return run


class TestSpiffe:
    def test_self_serving(self, spiffe, partner, fetch_spiffe):
        """The server proves its SPIFFE ID by the bundle that we have; we prove none."""
        assert fetch_spiffe().bundle.authorities == partner.bundle.authorities
        assert spiffe.client_certificates == [None]

    def test_of_another_domain(self, spiffe):
        """The bundle of one domain may be served by a server of another."""
        server_ca, other = DevelopmentCA("global.example"), DevelopmentCA("prod.example")
        with BundleServer.running(stock_server_context(server_ca.issue(SERVER_PATH))) as server:
            server.publish(other.bundle)
            options = {"profile": "https_spiffe", "spiffe_id": server_ca.spiffe_id(SERVER_PATH)}
            found = fetch(server, other, known=server_ca.bundle, **options)
        assert found.bundle.trust_domain == other.trust_domain

    def test_other_workload(self, spiffe, partner, fetch_spiffe):
        """Another workload of the same domain is not the endpoint."""
        with pytest.raises(FetchError, match=r"expected 'spiffe://partner\.example/other'"):
            fetch_spiffe(spiffe_id=SpiffeId.parse("spiffe://partner.example/other"))
        assert spiffe.paths == []

    def test_forged(self, partner, fetch_spiffe):
        """An authority of another domain cannot mint the endpoint's name."""
        mallory = DevelopmentCA("mallory.example")
        chain = mallory.issue_for("partner.example", SERVER_PATH)
        with BundleServer.running(stock_server_context(chain)) as server:
            with pytest.raises(FetchError, match=r"(?i)certificate|verif"):
                fetch_spiffe(url=server.url)
            assert server.paths == []

    @pytest.mark.parametrize("fault", ["expired", "two_uris", "no_san", "ca_leaf", "root_path_id"])
    def test_not_an_svid(self, partner, fetch_spiffe, fault):
        """The server's certificate has to be a valid X.509-SVID."""
        chain = partner.issue_faulty(fault, SERVER_PATH)
        with BundleServer.running(stock_server_context(chain)) as server:
            with pytest.raises(FetchError):
                fetch_spiffe(url=server.url)
            assert server.paths == []

    def test_web_certificate(self, web, partner, fetch_spiffe):
        """A certificate of the web is none here: there is nothing weaker to fall back to."""
        with pytest.raises(FetchError, match=r"(?i)certificate|verif"):
            fetch_spiffe(url=web.url)
        assert web.paths == []

    def test_nothing_known(self, fetch_spiffe):
        """Without a bundle of the server's domain there is no fetch."""
        with pytest.raises(FetchError, match=r"no trust bundle of 'partner\.example'"):
            fetch_spiffe(known=None)


class TestRedirects:
    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_followed(self, web, fetch_web, status):
        """A redirect to another https URL is followed."""
        web.act = redirect_to("/moved.json", times=1, status=status)
        assert fetch_web().bundle.sequence == 7
        assert web.paths == ["/bundle.json?v=1", "/moved.json"]

    def test_forgotten(self, web, fetch_web):
        """The next fetch begins with the configured URL."""
        web.act = redirect_to("/moved.json", times=1)
        fetch_web()
        fetch_web()
        assert web.paths[2:] == ["/bundle.json?v=1"]

    @pytest.mark.parametrize(
        "location",
        [
            pytest.param("http://localhost:{port}/", id="plain http"),
            pytest.param("https://user@localhost:{port}/", id="user"),
            pytest.param("https://user:pw@localhost:{port}/", id="password"),
            pytest.param("file:///etc/passwd", id="file"),
            pytest.param("https://localhost:{port}/#x", id="fragment"),
            pytest.param("https://localhost:99999/", id="no port"),
            pytest.param("//", id="nothing"),
        ],
    )
    def test_not_an_endpoint(self, web, fetch_web, location):
        """A redirect to what is no valid URL of an endpoint is refused."""
        web.act = redirect_to(location)
        with pytest.raises(FetchError, match="expected"):
            fetch_web()
        assert len(web.paths) == 1

    def test_circle(self, web, fetch_web):
        """A circle is recognised."""
        web.act = redirect_to("/bundle.json?v=1")
        with pytest.raises(FetchError, match="circle"):
            fetch_web()
        assert len(web.paths) == 1

    def test_too_many(self, web, fetch_web):
        """An endless row of redirects ends soon."""
        web.act = redirect_to("/{n}.json")
        with pytest.raises(FetchError, match="at most 3 redirects"):
            fetch_web()
        assert len(web.paths) == MAX_REDIRECTS + 1

    def test_nowhere(self, web, fetch_web):
        """A redirect without a target is none."""
        web.status = 302
        with pytest.raises(FetchError, match="where to"):
            fetch_web()

    def test_same_authentication(self, spiffe, partner, fetch_spiffe):
        """The target of a redirect has to prove the same SPIFFE ID."""
        twin, other = partner.issue(SERVER_PATH), partner.issue("/ns/spire/sa/other")
        with contextlib.ExitStack() as running:
            good = running.enter_context(BundleServer.running(stock_server_context(twin)))
            bad = running.enter_context(BundleServer.running(stock_server_context(other)))
            good.publish(partner.bundle)
            spiffe.act = redirect_to(good.url)
            assert len(fetch_spiffe().bundle) == 1
            spiffe.act = redirect_to(bad.url)
            with pytest.raises(FetchError, match=r"expected 'spiffe://partner\.example"):
                fetch_spiffe()
            assert bad.paths == []

    def test_to_the_web(self, spiffe, web, fetch_spiffe):
        """A SPIFFE endpoint cannot hand over to a web server."""
        spiffe.act = redirect_to(web.url)
        with pytest.raises(FetchError):
            fetch_spiffe()
        assert web.paths == []


class TestAbuse:
    @pytest.mark.parametrize(
        "act", [bundle_server.hold, bundle_server.drip, bundle_server.drip_head]
    )
    def test_slow(self, web, fetch_web, act):
        """All of it ends at the deadline, however the server wastes time."""
        web.act = act
        began = time.monotonic()
        with pytest.raises(FetchError, match=r"within 0\.4 s"):
            fetch_web(timeout=0.4)
        assert time.monotonic() - began < 5

    def test_slow_redirects(self, web, fetch_web):
        """The deadline is for all hops together."""

        def act(answer):
            answer.server.released.wait(0.3)
            return redirect_to("/{n}.json")(answer)

        web.act = act
        with pytest.raises(FetchError, match="within"):
            fetch_web(timeout=0.5)

    def test_huge(self, web, fetch_web):
        """A document that is too long is refused once that much has come."""
        web.act = bundle_server.pour
        with pytest.raises(FetchError, match="at most"):
            fetch_web()
        web.act, web.body = None, b" " * (MAX_DOCUMENT_BYTES + 1)
        with pytest.raises(FetchError, match="at most"):
            fetch_web()

    @pytest.mark.parametrize(
        "act", [bundle_server.truncate, bundle_server.cut, bundle_server.hang_up]
    )
    def test_truncated(self, web, fetch_web, act):
        """Half a document is none."""
        web.act = act
        with pytest.raises(FetchError):
            fetch_web()

    @pytest.mark.parametrize("status", [201, 204, 206, 304, 401, 404, 500])
    def test_status(self, web, fetch_web, status):
        """Only 200 is an answer."""
        web.status, web.body = status, b""
        with pytest.raises(FetchError, match=str(status)):
            fetch_web()

    @pytest.mark.parametrize("coding", ["gzip", "br", "identity, gzip"])
    def test_compressed(self, web, fetch_web, coding):
        """Nothing is decompressed."""
        web.headers["content-encoding"] = coding
        with pytest.raises(FetchError, match="coding"):
            fetch_web()

    @pytest.mark.parametrize(
        "content_type",
        ["text/html", "text/plain", "application/x-pem-file", "application/json; charset=latin-1"],
    )
    def test_content_type(self, web, fetch_web, content_type):
        """What is not called JSON in UTF-8 is no bundle."""
        web.headers["content-type"] = content_type
        with pytest.raises(FetchError, match="content type"):
            fetch_web()

    @pytest.mark.parametrize(
        "content_type",
        ["application/json; charset=utf-8", "Application/JSON", "application/jwk-set+json", None],
    )
    def test_good_content_type(self, web, fetch_web, content_type):
        """The usual names of JSON are fine, and so is none: the standard says SHOULD."""
        web.headers = {"content-type": content_type} if content_type else {}
        assert len(fetch_web().bundle) == 1

    def test_duplicate_keys(self, web, fetch_web):
        """Two parsers would read it differently."""
        web.body = web.body.replace(b'"keys":', b'"keys": [], "keys":')
        with pytest.raises(FetchError, match="duplicate"):
            fetch_web()

    def test_other_domain(self, web, fetch_web):
        """Authorities that say they are another domain's are not this one's."""
        web.publish(DevelopmentCA("other.example").bundle)
        with pytest.raises(FetchError, match=r"spiffe://other\.example"):
            fetch_web()

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            pytest.param(b"", "JSON", id="nothing"),
            pytest.param(b"<html>", "JSON", id="a page"),
            pytest.param(b"[]", "JSON object", id="a list"),
            pytest.param(b"{}", "'keys'", id="no keys"),
            pytest.param(b'{"keys": {}}', "'keys'", id="keys of another type"),
            pytest.param(b'{"keys": []}'.decode().encode("utf-16"), "UTF-8", id="utf-16"),
            pytest.param(b'{"keys": []}'.decode().encode("utf-16-le"), "UTF-8", id="utf-16 bare"),
            pytest.param(b'{"keys": [], "x": "\xff"}', "UTF-8", id="latin-1"),
            pytest.param(b"[" * 100_000, "JSON", id="deep"),
            pytest.param(b'{"keys": [], "spiffe_sequence": -1}', "spiffe_sequence", id="negative"),
            pytest.param(b'{"keys": [], "spiffe_sequence": 1.5}', "spiffe_sequence", id="float"),
            pytest.param(b'{"keys": [], "spiffe_sequence": "1"}', "spiffe_sequence", id="text"),
            pytest.param(b'{"keys": [], "spiffe_refresh_hint": true}', "refresh_hint", id="truth"),
            pytest.param(
                b'{"keys": [], "spiffe_sequence": ' + b"9" * 5000 + b"}",
                "JSON",
                id="endless number",
            ),
        ],
    )
    def test_malformed(self, web, fetch_web, body, message):
        """What is no bundle document is an error that says what was expected."""
        web.body = body
        with pytest.raises(FetchError, match=message):
            fetch_web()

    @pytest.mark.parametrize(
        "change",
        [
            pytest.param(lambda key: key.pop("x5c"), id="no certificate"),
            pytest.param(lambda key: key.update(x5c=[]), id="an empty list"),
            pytest.param(lambda key: key.update(x5c="x"), id="a text"),
            pytest.param(lambda key: key.update(x5c=["%"]), id="not base64"),
            pytest.param(lambda key: key.update(x5c=["AAAA"]), id="not a certificate"),
            pytest.param(lambda key: key.update(x5c=[key["x5c"][0][:-8]]), id="half a certificate"),
        ],
    )
    def test_malformed_entry(self, web, fetch_web, change):
        """One broken authority spoils the document: who knows what else is missing."""
        web.body = edited(web.body, lambda document: change(document["keys"][0]))
        with pytest.raises(FetchError):
            fetch_web()

    def test_leaf_as_authority(self, web, partner, fetch_web):
        """A leaf in a bundle would vouch for itself."""
        der = ssl.PEM_cert_to_DER_cert(partner.issue().certificates_pem().decode())
        leaf = base64.b64encode(der).decode()
        web.body = edited(web.body, lambda document: document["keys"][0].update(x5c=[leaf]))
        with pytest.raises(FetchError, match="CA"):
            fetch_web()

    @pytest.mark.parametrize(
        "change",
        [
            pytest.param(lambda key: key.update(use="wit-svid"), id="a use of the future"),
            pytest.param(lambda key: key.update(use="X509-SVID"), id="in capitals"),
            pytest.param(lambda key: key.update(use="sig"), id="of plain JWKS"),
            pytest.param(lambda key: key.update(use=None), id="null"),
            pytest.param(lambda key: key.pop("use"), id="none"),
            pytest.param(lambda key: key.pop("kty"), id="no kty"),
            pytest.param(lambda key: key.update(kty="AKP"), id="a kty of the future"),
            pytest.param(lambda key: key.update(kty="oct"), id="a secret"),
            pytest.param(lambda key: key.update(kty=["EC"]), id="a list as kty"),
        ],
    )
    def test_unknown_entry(self, web, fetch_web, change):
        """Entries that we do not know are ignored and counted, as the standard asks."""

        def add(document):
            document["keys"].append(json.loads(json.dumps(document["keys"][0])))
            change(document["keys"][1])

        web.body = edited(web.body, add)
        found = fetch_web()
        assert (len(found.bundle), found.ignored) == (1, 1)

    def test_revoked(self, web, fetch_web):
        """No keys at all is an answer: everything is revoked."""
        web.body = b'{"keys": []}'
        assert len(fetch_web().bundle) == 0

    def test_nobody_there(self, fetch_web):
        """A port that nobody listens on is a failed fetch."""
        with pytest.raises(FetchError):
            fetch_web(url="https://localhost:9/")

    def test_missing_roots(self, fetch_web, tmp_path):
        """A file of roots that is not there is a failed fetch, not a crash."""
        with pytest.raises(FetchError):
            fetch_web(ca_file=tmp_path / "none.pem")

    @pytest.mark.filterwarnings("ignore:Parsed a serial number")
    def test_mutated_responses(self, web, partner, fetch_web):
        """Whatever comes over the wire is a bundle of the configured domain or an error of ours."""
        chance = random.Random(7)  # noqa: S311 - the same mutations at each run
        good = (
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n" % len(web.body)
        ) + web.body
        outcomes = set()
        for _ in range(80):
            raw = mutated(good, chance)

            def act(answer, raw=raw):
                answer.wfile.write(raw)
                answer.close_connection = True
                return False

            web.act = act
            try:
                found = fetch_web(timeout=2).bundle
            except FetchError:
                outcomes.add("error")
            else:
                assert found.trust_domain == partner.trust_domain
                assert len(found) <= 1
                outcomes.add("bundle")
        assert outcomes == {"error", "bundle"}


def mutated(raw, chance):
    """A few bytes of the head or the beginning of the body changed, left out, or doubled."""
    found = bytearray(raw)
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(min(len(found), 260))
        match chance.randrange(4):
            case 0:
                found[at] = chance.randrange(256)
            case 1:
                del found[at : at + chance.randint(1, 40)]
            case 2:
                found[at:at] = found[at : at + chance.randint(1, 40)]
            case _:
                found[at:at] = bytes(chance.randrange(256) for _ in range(3))
    return bytes(found)
