# SPDX-License-Identifier: Apache-2.0
"""Certificates, kubeconfigs and command lines of the development cluster."""

from __future__ import annotations

import base64
import json
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import NameOID

from cluster import ONLY_BETA, Options, flags, kubeconfig
from cluster.authority import Authority, file_name, write_signing_key


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority("test-authority", tmp_path)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


class TestAuthority:
    def test_client(self, authority: Authority) -> None:
        """A user is the common name, each group one organization, under the authority."""
        files = authority.issue_client("jane", ["a", "b"])
        subject = certificate(files.certificate).subject
        assert [n.value for n in subject.get_attributes_for_oid(NameOID.COMMON_NAME)] == ["jane"]
        organizations = subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
        assert [n.value for n in organizations] == ["a", "b"]
        issuer = certificate(authority.files.certificate)
        certificate(files.certificate).verify_directly_issued_by(issuer)

    def test_key_belongs_to_the_certificate(self, authority: Authority) -> None:
        """Certificate and key are a pair, and only the owner may read the key."""
        files = authority.issue_server("server")
        key = load_pem_private_key(files.private_key.read_bytes(), None)
        assert key.public_key() == certificate(files.certificate).public_key()
        assert mode(files.private_key) == 0o600

    def test_server_names(self, authority: Authority) -> None:
        """A server is named localhost and by its addresses."""
        leaf = certificate(authority.issue_server("s", ["127.0.0.1", "10.88.0.1"]).certificate)
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert "localhost" in names.get_values_for_type(x509.DNSName)
        addresses = [str(each) for each in names.get_values_for_type(x509.IPAddress)]
        assert addresses == ["127.0.0.1", "10.88.0.1"]

    def test_service_account_keys(self, tmp_path: Path) -> None:
        """The public file has no private key; the private one is the owner's."""
        files = write_signing_key(tmp_path)
        assert files.certificate.read_bytes().startswith(b"-----BEGIN PUBLIC KEY-----")
        assert mode(files.private_key) == 0o600

    @pytest.mark.parametrize(
        ("first", "second"), [("a/b", "a_b"), ("a:b", "a_3a_b"), ("../x", "x"), ("ä", "a")]
    )
    def test_file_names(self, first: str, second: str) -> None:
        """Different users never share a file, and no name leaves the folder."""
        assert file_name(first) != file_name(second)
        assert "/" not in file_name(first)
        assert file_name("kube-apiserver") != "kube-apiserver"


class TestKubeconfig:
    def test_certificate(self, authority: Authority, tmp_path: Path) -> None:
        """All that is needed to connect is in one file, which only its owner may read."""
        files = authority.issue_client("jane")
        path = kubeconfig.with_certificate(
            tmp_path / "config",
            server="https://127.0.0.1:1",
            authority_pem=authority.certificate_pem,
            files=files,
        )
        document = json.loads(path.read_text())
        user, cluster = document["users"][0]["user"], document["clusters"][0]["cluster"]
        key = base64.b64decode(user["client-key-data"])
        assert key == files.private_key.read_bytes()
        assert base64.b64decode(cluster["certificate-authority-data"]) == authority.certificate_pem
        assert mode(path) == 0o600

    def test_token(self, tmp_path: Path) -> None:
        """A token is all there is about its user."""
        path = kubeconfig.with_token(
            tmp_path / "config", server="https://a", authority_pem=b"", token="made up"
        )
        assert json.loads(path.read_text())["users"][0]["user"] == {"token": "made up"}


class TestOptions:
    def test_default(self) -> None:
        """By default only the limits that would slow tests down are raised."""
        expected = ["--kube-api-qps=300", "--kube-api-burst=600"]
        assert Options().flags(flags.SCHEDULER) == expected
        assert Options().flags(flags.ETCD) == []

    def test_switches(self) -> None:
        """Gates go to Kubernetes' programs, APIs to the API server only."""
        options = Options(feature_gates={"A": True, "B": False}, runtime_config={"c/v1": False})
        api = options.flags(flags.API_SERVER)
        assert "--feature-gates=A=true,B=false" in api
        assert "--runtime-config=c/v1=false" in api
        manager = options.flags(flags.CONTROLLER_MANAGER)
        assert "--feature-gates=A=true,B=false" in manager
        assert not any("runtime-config" in each for each in manager)
        assert options.flags(flags.ETCD) == []

    def test_more(self) -> None:
        """Further flags come last and reach their program only."""
        assert ONLY_BETA.flags(flags.SCHEDULER)[-1] == "--emulated-version=1.36"
        assert ONLY_BETA.flags(flags.ETCD) == []
        assert "--authorization-mode=RBAC" in ONLY_BETA.flags(flags.API_SERVER)


class TestCommandLines:
    def test_loopback_only(self, authority: Authority, tmp_path: Path) -> None:
        """Nothing listens on an address that another machine reaches."""
        files = authority.files
        credentials = flags.Credentials(files, files.certificate, files, files, files, files)
        ports = flags.Ports(1, 2, 3)
        etcd = flags.etcd(tmp_path, ports, credentials)
        urls = [each.partition("=")[2] for each in etcd if "-urls=" in each]
        assert set(urls) == {"https://127.0.0.1:1", "https://127.0.0.1:2"}
        assert "--bind-address=127.0.0.1" in flags.api_server(tmp_path, ports, credentials)
        assert "--secure-port=0" in flags.scheduler(tmp_path)
        assert "--secure-port=0" in flags.controller_manager(tmp_path, credentials)

    def test_etcd_asks_for_certificates(self, authority: Authority, tmp_path: Path) -> None:
        """Another user of the machine cannot read the cluster's secrets from etcd."""
        files = authority.files
        credentials = flags.Credentials(files, files.certificate, files, files, files, files)
        etcd = flags.etcd(tmp_path, flags.Ports(1, 2, 3), credentials)
        assert {"--client-cert-auth", "--peer-client-cert-auth"} <= set(etcd)
