# SPDX-License-Identifier: Apache-2.0
"""The promises of a workload's volume and its rotations."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from kubetls_sdk import TrustBundle, X509Svid
from kubetls_sdk.testing import DevelopmentCA, WorkloadVolume

ROOT = Path(__file__).parents[3]


def mounted(volume: WorkloadVolume) -> X509Svid:
    text = (volume.directory / "credential-bundle.pem").read_bytes()
    return X509Svid.from_pem(certificates=text, private_key=text)


def bundle(volume: WorkloadVolume, ca: DevelopmentCA) -> TrustBundle:
    file = volume.directory / f"{ca.trust_domain}.trust-bundle.pem"
    return TrustBundle.from_pem(ca.trust_domain, file.read_bytes())


class TestWorkloadVolume:
    def test_rotate(self, tmp_path) -> None:
        """A rotation writes a new SVID of the same name with the same options."""
        ca = DevelopmentCA()
        volume = WorkloadVolume(tmp_path, ca, "/ns/a/sa/b", options={"dns_names": ["b.a.svc"]})
        before = mounted(volume)
        after = volume.rotate()
        assert mounted(volume) == after == volume.svid != before
        assert (after.spiffe_id, after.dns_names) == (before.spiffe_id, before.dns_names)

    def test_rotate_to_a_given_svid(self, tmp_path) -> None:
        """A test may bring its own SVID, such as an expired or forged one."""
        ca = DevelopmentCA()
        forged = DevelopmentCA("partner.example").issue_for("example.org")
        volume = WorkloadVolume(tmp_path, ca, "/ns/a/sa/b")
        assert volume.rotate(forged) is forged
        assert mounted(volume) == forged

    def test_write_trust(self, tmp_path) -> None:
        """New roots of the own CA and of partners reach the volume; the SVID stays."""
        ca, partner = DevelopmentCA(), DevelopmentCA("partner.example")
        volume = WorkloadVolume(tmp_path, ca, "/ns/a/sa/b", trust=[partner])
        before = mounted(volume)
        partner.add_root()
        ca.add_root()
        assert len(bundle(volume, partner)) == len(bundle(volume, ca)) == 1
        volume.write_trust()
        assert bundle(volume, partner) == partner.bundle
        assert bundle(volume, ca) == ca.bundle
        assert mounted(volume) == before


class TestImports:
    def test_needs_neither_pytest_nor_click(self) -> None:
        """The kit can be used without pytest, click or any framework."""
        code = (
            "import kubetls_sdk.testing, kubetls_sdk.testing.development_domain, sys;"
            "print({'pytest', 'click', 'yaml', 'httpx', 'starlette', 'asyncio'} & set(sys.modules))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
        )
        assert done.stdout.strip() == "set()"
