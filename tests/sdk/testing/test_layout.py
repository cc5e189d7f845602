# SPDX-License-Identifier: Apache-2.0
"""The promises of the files of each layout."""

from __future__ import annotations

import pytest

from kubetls_sdk import ConfigurationError, TrustBundle, TrustBundleSet, X509Svid, volume
from kubetls_sdk.testing import LAYOUTS, DevelopmentCA, KubeletVolume, volume_files
from kubetls_sdk.volume import parse_volume, read_volume

OWN, PARTNER = DevelopmentCA("example.org"), DevelopmentCA("partner.example")
PARTNER_FILE = "partner.example.trust-bundle.pem"


class TestVolumeFiles:
    @pytest.mark.parametrize(
        ("layout", "names"),
        [
            pytest.param(
                "spiffe", {"credential-bundle.pem", "example.org.trust-bundle.pem"}, id="spiffe"
            ),
            pytest.param("kubernetes-tls", {"tls.key", "tls.crt", "ca.crt"}, id="kubernetes-tls"),
            pytest.param(
                "spiffe-helper", {"svid_key.pem", "svid.pem", "svid_bundle.pem"}, id="spiffe-helper"
            ),
        ],
    )
    def test_names(self, layout, names) -> None:
        """Each layout has its names, and a partner's bundle the same in all."""
        files = volume_files(OWN.issue(), [OWN.bundle, PARTNER.bundle], layout)
        assert files.keys() == names | {PARTNER_FILE}
        assert TrustBundle.from_pem(PARTNER.trust_domain, files[PARTNER_FILE]) == PARTNER.bundle

    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_content_is_read_back(self, layout) -> None:
        """The files together hold the same chain, key and bundle."""
        svid = OWN.issue(intermediates=1)
        files = volume_files(svid, TrustBundleSet([OWN.bundle]), layout)
        chain = next(text for name, text in files.items() if _is_chain(name))
        key = next(text for text in files.values() if b"PRIVATE KEY" in text)
        read = X509Svid.from_pem(certificates=chain, private_key=key)
        assert (read, read.private_key.private_numbers()) == (
            svid,
            svid.private_key.private_numbers(),
        )

    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_is_what_the_sdk_reads(self, layout, tmp_path) -> None:
        """What the kit writes, `kubetls_sdk.volume` reads: layout, SVID and both bundles."""
        svid = OWN.issue(intermediates=1)
        KubeletVolume(tmp_path).write_svid(svid, [OWN.bundle, PARTNER.bundle], layout)
        read = parse_volume(read_volume(tmp_path))
        assert (read.layout, read.svid, read.misnamed) == (layout, svid, ())
        assert set(read.bundles.values()) == {OWN.bundle, PARTNER.bundle}

    def test_knows_every_layout(self) -> None:
        """The kit can write every layout that the SDK reads."""
        assert tuple(layout.name for layout in volume.LAYOUTS) == LAYOUTS

    def test_credential_bundle_starts_with_the_key(self) -> None:
        """The credential bundle is PKCS#8 key first, then the chain leaf first."""
        svid = OWN.issue(intermediates=1)
        text = volume_files(svid, [])["credential-bundle.pem"]
        assert text.startswith(b"-----BEGIN PRIVATE KEY-----")
        assert text.endswith(svid.certificates_pem())

    def test_shuffle(self) -> None:
        """A shuffled bundle comes in another order, sooner or later, and is the same set."""
        ca = DevelopmentCA()
        for _ in range(4):
            ca.add_root()
        name = "example.org.trust-bundle.pem"
        svid = ca.issue()
        texts = {volume_files(svid, [ca.bundle], shuffle=True)[name] for _ in range(60)}
        assert len(texts) > 1
        assert {TrustBundle.from_pem(ca.trust_domain, text) for text in texts} == {ca.bundle}

    def test_without_own_bundle(self) -> None:
        """A bundle that is not given is not there, which is not the same as an empty one."""
        svid = OWN.issue()
        assert "ca.crt" not in volume_files(svid, [PARTNER.bundle], "kubernetes-tls")
        empty = TrustBundle(OWN.trust_domain, ())
        assert volume_files(svid, [empty], "kubernetes-tls")["ca.crt"] == b""

    def test_faulty_chain(self) -> None:
        """A faulty chain is written as it is, the first bundle being its own."""
        chain = OWN.issue_faulty("no_san")
        files = volume_files(chain, [OWN.bundle, PARTNER.bundle], "kubernetes-tls")
        assert files["tls.crt"] == chain.certificates_pem()
        assert files["ca.crt"] == OWN.bundle.to_pem()

    def test_own_can_be_named(self) -> None:
        """The domain whose bundle is the own one may be said: for a forged SVID."""
        forged = PARTNER.issue_for("example.org")
        files = volume_files(
            forged, [PARTNER.bundle, OWN.bundle], "kubernetes-tls", own="partner.example"
        )
        assert files["ca.crt"] == PARTNER.bundle.to_pem()

    def test_unknown_layout(self) -> None:
        """An unknown layout is refused with the known ones."""
        with pytest.raises(ConfigurationError, match="kubernetes-tls"):
            volume_files(OWN.issue(), [], "tls")


def _is_chain(name: str) -> bool:
    return name in {"credential-bundle.pem", "tls.crt", "svid.pem"}
