# SPDX-License-Identifier: Apache-2.0
"""The page of the edge example, in a real browser: what it shows is what the servers decided."""

from __future__ import annotations

import json
import re
import signal
import ssl
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.examples.browser import Browser, Page, browser_command
from tests.examples.edge_run import start_edge
from tests.waiting import until

BROWSER = browser_command()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.skipif(
        BROWSER is None,
        reason="needs a Chromium or Chrome (apt-get install chromium), or $KUBETLS_TEST_BROWSER",
    ),
]
CHECKS = (
    "encryption",
    "service_authentication",
    "service_authorization",
    "user_authentication",
    "user_authorization",
)
REFUSALS = {
    "other-orders": (403, "first", "user_authorization", "allow rule 'owner-reads-orders'"),
    "other-order": (403, "second", "user_authorization", "allow rule 'owner-reads-order'"),
    "anonymous": (401, "first", "user_authentication", "no user token"),
    "tampered": (401, "first", "user_authentication", "signature"),
    "expired": (401, "first", "user_authentication", "expired"),
    "audience": (401, "first", "user_authentication", "aud"),
    "issuer": (401, "first", "user_authentication", "issuer"),
    "key": (401, "first", "user_authentication", "signature"),
}


class Edge(NamedTuple):
    """The example, open to browsers."""

    url: str
    build: Path
    federation: Path

    def chain(self) -> Path:
        """The certificate that it presents, and its root, in one file."""
        port = int(self.url.rstrip("/").rpartition(":")[2])
        roots = self.build / "demo-edge-ca.pem"
        leaf = ssl.get_server_certificate(("localhost", port), ca_certs=str(roots))
        file = self.build / "chain.pem"
        file.write_text(leaf + roots.read_text())
        return file

    def last(self, api: str, **fields: str) -> dict:
        """The last record with these fields in an API's audit log."""
        lines = (self.build / "demo-edge-logs" / f"{api}-audit.jsonl").read_text().splitlines()
        records = [json.loads(line) for line in lines if line.endswith("}")]
        return [r for r in records if all(r[name] == value for name, value in fields.items())][-1]


@pytest.fixture(scope="module")
def edge(tmp_path_factory):
    build = tmp_path_factory.mktemp("edge")
    process = start_edge(build, "--serve", "--port", "0")
    output = build / "output"

    def invitation() -> str:
        assert process.poll() is None, output.read_text()
        text = output.read_text()
        return text if "Ctrl-C ends everything" in text else ""

    text = until(invitation, timeout=90)
    url, federation = re.search(r"Open (\S+)", text)[1], re.search(r"mv (\S+)", text)[1]
    yield Edge(url, build, Path(federation))
    process.send_signal(signal.SIGINT)
    process.wait(30)


@pytest.fixture(scope="module")
def opened(edge, tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    with Browser(BROWSER, home, chain=edge.chain()) as browser, browser.page() as page:
        assert page.open(edge.url) is None
        yield page


@pytest.fixture
def page(opened) -> Page:
    """The page, for alice."""
    press(opened, "[data-user=alice]")
    return opened


def press(page: Page, selector: str) -> None:
    """Press a button, and wait until everything that it does has been done."""
    page.click(selector)
    until(lambda: not page.evaluate("!!document.querySelector('button:disabled')"), timeout=20)


def ask(page: Page, name: str) -> str:
    press(page, f"[data-ask={name}]")
    return page.text("#answer .status")


def results(page: Page, card: str) -> dict[str, str]:
    items = f"[...document.querySelectorAll('#{card} li')]"
    return dict(page.evaluate(f"{items}.map((item) => [item.dataset.check, item.dataset.result])"))


def seen(page: Page, card: str, check: str) -> str:
    return page.text(f"#{card} [data-check={check}] .seen")


class TestAllowed:
    """A request that passes all checks."""

    def test_shows_the_orders(self, page):
        """Alice gets her orders, from the internal API."""
        assert ask(page, "own-orders") == "200"
        assert "A2 a kettle" in page.text("#answer .what")

    def test_shows_the_five_checks_of_each_hop(self, page):
        """Outside the caller is no service; inside nothing is left out."""
        ask(page, "own-orders")
        outside = dict.fromkeys(CHECKS, "passed") | {"service_authentication": "not-asked"}
        assert results(page, "first") == outside
        assert results(page, "second") == dict.fromkeys(CHECKS, "passed")

    def test_shows_what_the_servers_recorded(self, page, edge):
        """Each text is that of the audit record of this very call."""
        ask(page, "own-order")
        outside = edge.last("external", path="/orders/A1")
        inside = edge.last("internal", path="/orders/A1")
        route = edge.last("internal", event="action")
        assert seen(page, "first", "service_authorization") == f"rule {outside['rule']}"
        assert seen(page, "first", "user_authentication").split("\n")[0] == "alice"
        assert f"caller {inside['spiffe_id']}" in seen(page, "second", "service_authentication")
        assert seen(page, "second", "service_authorization") == f"rule {inside['rule']}"
        assert seen(page, "second", "user_authorization") == f"rule {route['rule']}"
        assert inside["tls"] in seen(page, "second", "encryption")

    def test_shows_the_connection_inside(self, page):
        """Version, cipher suite and the server's identity are those of the TLS connection."""
        ask(page, "own-orders")
        version, cipher = seen(page, "second", "encryption").split("\n")
        assert version == "TLSv1.3"
        assert cipher.startswith("TLS_")
        identities = seen(page, "second", "service_authentication")
        assert "server spiffe://example.org/ns/shop/sa/internal-api" in identities

    def test_marks_the_picture(self, page):
        """Both hops of the picture are marked as passed."""
        ask(page, "own-orders")
        assert page.text("[data-of=browser-external] text") == "✓"
        assert page.text("[data-of=external-internal] text") == "✓"


class TestRefused:
    """Requests that are wrong in one thing."""

    @pytest.mark.parametrize("name", REFUSALS)
    def test_shows_the_check_that_failed(self, page, name):
        """The status, the hop and the check that refused it, with the server's reason."""
        status, card, check, reason = REFUSALS[name]
        assert ask(page, name) == str(status)
        failed = [key for key, result in results(page, card).items() if result == "failed"]
        assert failed == [check]
        assert reason in seen(page, card, check)

    @pytest.mark.parametrize("name", ["other-orders", "tampered"])
    def test_shows_that_the_inside_was_not_called(self, page, name):
        """What the external API refuses never gets to the internal one."""
        ask(page, name)
        assert results(page, "second") == {}
        assert "not called" in page.text("#second")
        assert page.text("[data-of=browser-external] text") == "✗"
        assert page.text("[data-of=external-internal] text") == ""

    def test_bob_is_somebody_else(self, page):
        """Logged in as bob, his orders are shown, and alice's are refused."""
        press(page, "[data-user=bob]")
        assert ask(page, "own-orders") == "200"
        assert "B1" in page.text("#answer .what")
        assert ask(page, "other-orders") == "403"

    def test_nobody_gets_nothing(self, page):
        """Without a log-in there is no token, and no order."""
        press(page, "[data-user='']")
        assert ask(page, "own-orders") == "401"


class TestOthers:
    """What goes on meanwhile."""

    @pytest.mark.parametrize(
        ("card", "told"),
        [
            ("app", "carol"),
            ("partner", "spiffe://partner.example/ns/sales/sa/shop"),
            ("courier", "spiffe://partners.example.org/acme/courier"),
        ],
    )
    def test_are_shown(self, page, card, told):
        """App and partners call all the time; each is allowed what it may."""
        until(lambda: told in page.text(f"#{card}"), timeout=20)
        until(lambda: "allowed" in page.text(f"#{card}"), timeout=20)

    def test_a_removed_partner_is_refused_before_ones_eyes(self, page, edge):
        """Without the federation file the partner is nobody; with it, it is back."""
        away = edge.federation.with_suffix(".away")
        edge.federation.rename(away)
        try:
            until(lambda: "issuer is unknown" in page.text("#partner"), timeout=20)
            until(lambda: "allowed" not in page.text("#partner"), timeout=20)
            assert page.text("[data-of=partner-internal] text") == "✗"
        finally:
            away.rename(edge.federation)
        until(lambda: "allowed" in page.text("#partner"), timeout=20)


class TestPage:
    """The page itself."""

    def test_asks_nobody_else(self, page, edge):
        """Everything comes from the external API: no other host, no other port."""
        ask(page, "own-orders")
        assert len(page.requested()) > 5
        assert not [url for url in page.requested() if not url.startswith(edge.url)]

    def test_has_nothing_to_complain_about(self, page):
        """No exception, nothing that its content security policy forbids."""
        for name in ("own-orders", *REFUSALS):
            ask(page, name)
        assert page.complaints() == []

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_is_readable(self, page, scheme):
        """Texts stand out from their panel, in both colour schemes (WCAG AA: 4.5)."""
        page.emulate(prefers_color_scheme=scheme)
        ask(page, "tampered")
        measured = page.evaluate((Path(__file__).parent / "contrast.js").read_text())
        assert measured["isDark"] is (scheme == "dark")
        assert len(measured["contrasts"]) > 20
        assert min(measured["contrasts"]) >= 4.5

    @pytest.mark.parametrize("width", [400, 820, 1280])
    def test_fits_the_screen(self, page, width):
        """On a telephone too, nothing but the picture has to be scrolled sideways."""
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 800}
        page.command("Emulation.setDeviceMetricsOverride", **size)
        ask(page, "own-orders")
        edges = (
            "[...document.querySelectorAll('.panel')].map((e) => e.getBoundingClientRect().right)"
        )
        assert max(page.evaluate(edges)) <= page.evaluate("document.body.clientWidth") - 16
        page.command("Emulation.clearDeviceMetricsOverride")

    def test_needs_a_certificate_that_the_browser_trusts(self, edge, tmp_path):
        """Control: a browser that does not know the demo's CA refuses the page."""
        with Browser(BROWSER, tmp_path) as browser, browser.page() as page:
            assert page.open(edge.url) == "net::ERR_CERT_AUTHORITY_INVALID"
