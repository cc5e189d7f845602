# SPDX-License-Identifier: Apache-2.0
"""`kubetls doctor` and `image-check` where web roots are replaced by the zone's bundle."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.serialization import Encoding

from kubetls_sdk.cli.command_line import kubetls
from kubetls_sdk.testing import DevelopmentCA, KubeletVolume
from webhook.injection.trust_store import BUNDLE, VARIABLES
from webhook.names import TRUST_STORE_PLACES

VARIABLE_NAMES = sorted(set(VARIABLES) - {"KUBETLS_TRUST_STORE"})


@pytest.fixture(scope="module")
def ca():
    return DevelopmentCA("example.org")


@pytest.fixture(scope="module")
def web():
    return DevelopmentCA("web.example").bundle.to_pem()


class Pod:
    """A container's volume, trust store and variables."""

    def __init__(self, folder, ca):
        self.volume = KubeletVolume(folder / "volume")
        self.volume.write_svid(ca.issue(), [ca.bundle])
        self.store = folder / "store"
        self.store.mkdir()
        self.file = self.store / "ca-certificates.crt"
        self.file.write_bytes(ca.bundle.to_pem())
        places = {BUNDLE: str(self.file), TRUST_STORE_PLACES[0]: str(self.store)}
        self.environment = {name: places.get(text, text) for name, text in VARIABLES.items()}

    def run(self, *options, **changes):
        arguments = ["doctor", str(self.volume.directory), *options]
        environment = {**dict.fromkeys(VARIABLES), **self.environment, **changes}
        return CliRunner().invoke(kubetls, arguments, env=environment)

    def findings(self, *options, **changes):
        result = self.run("--json", *options, **changes)
        assert result.exit_code == 0  # warnings are no faults
        document = json.loads(result.stdout)
        return {each["name"]: each["found"] for each in document["findings"]}


@pytest.fixture
def pod(tmp_path, ca):
    return Pod(tmp_path, ca)


class TestDoctor:
    def test_active(self, pod):
        """It says that the image's roots are replaced, and finds no fault in what is injected."""
        first, second = pod.run().stdout.splitlines()
        assert first == (
            f"the image's web roots are replaced by {pod.file}"
            " (kubetls.gauntletwizard.net/trust-store: internal)"
        )
        assert second.startswith("no faults found")
        assert json.loads(pod.run("--json").stdout)["trust_store"] == str(pod.file)

    def test_not_asked_for(self, pod):
        """Without the annotation there is nothing to say."""
        environment = dict.fromkeys(VARIABLES, None)
        assert "replaced" not in pod.run(**environment).stdout
        assert json.loads(pod.run("--json", **environment).stdout)["trust_store"] is None

    @pytest.mark.parametrize("name", VARIABLE_NAMES)
    @pytest.mark.parametrize("value", [None, "/other"], ids=["unset", "changed"])
    def test_a_variable_that_was_changed(self, pod, name, value):
        """An entrypoint that unsets or changes any variable undoes it for some library."""
        found = pod.findings(**{name: value})
        assert found == {"overridden-trust-store": f"other values than the platform's: {name}"}

    def test_more_options_of_node(self, pod):
        """Options of the author beside ours change nothing."""
        assert pod.findings(NODE_OPTIONS="-r /app/x.js --use-openssl-ca") == {}

    @pytest.mark.parametrize("kind", ["more", "other", "empty", "garbage", "missing"])
    def test_other_content(self, pod, ca, web, kind):
        """A store that is not exactly our own domain's bundle is told, whatever is wrong."""
        content = {
            "more": ca.bundle.to_pem() + web,
            "other": web,
            "empty": b"",
            "garbage": b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        }.get(kind)
        if content is None:
            pod.file.unlink()
        else:
            pod.file.write_bytes(content)
        assert list(pod.findings()) == ["wrong-trust-store"]

    def test_what_stays_of_the_image(self, pod, web, tmp_path):
        """Of the image's stores only those are told that somebody still believes."""
        image = tmp_path / "image"
        for path in (
            "etc/ssl/certs/ca-certificates.crt",
            "v/site-packages/grpc/_cython/_credentials/roots.pem",
            "v/site-packages/botocore/cacert.pem",
            "usr/share/ca-certificates/mozilla/a.crt",
        ):
            put(image / path, web)
        assert pod.findings("--image", str(image)) == {}
        put(image / "v/site-packages/certifi/cacert.pem", web)
        found = pod.findings("--image", str(image))["web-roots"]
        assert "still believed by code that asks certifi itself" in found


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


class TestImageCheck:
    @pytest.mark.parametrize(
        ("path", "remaining"),
        [
            ("etc/ssl/certs/ca-certificates.crt", ""),
            ("etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", ""),
            ("usr/share/ca-certificates/mozilla/a.crt", ""),
            ("v/pip/_vendor/certifi/cacert.pem", ""),
            ("v/grpc/_cython/_credentials/roots.pem", ""),
            ("v/botocore/cacert.pem", ""),
            ("v/certifi/cacert.pem", "code that asks certifi itself, or has trust_env=False"),
            ("var/lib/ca-certificates/ca-bundle.pem", "programs that open this path by name"),
            ("usr/share/pki/ca-trust-source/ca-bundle.trust.p11-kit", "GnuTLS and NSS"),
            ("usr/lib/jvm/lib/security/cacerts", "Java"),
            ("srv/roots.pem", "whoever opens it"),
        ],
    )
    def test_each_kind(self, tmp_path, path, remaining):
        """Before a pod asks, it says who would still believe the image's roots."""
        authorities = [DevelopmentCA(f"web{n}.example").authority for n in range(5)]
        pem = b"".join(each.public_bytes(Encoding.PEM) for each in authorities)
        put(tmp_path / path, pem)
        assert answer(tmp_path)["remaining"] == remaining
        text = CliRunner().invoke(kubetls, ["image-check", str(tmp_path)]).stdout
        expected = f"still believed by {remaining}" if remaining else "replaced"
        assert f"\n  internal   {expected}\n" in text

    def test_a_link_into_the_place(self, tmp_path, web):
        """Alpine's `/etc/ssl/cert.pem` leads to what the store is mounted over."""
        put(tmp_path / "etc/ssl/certs/ca-certificates.crt", web)
        (tmp_path / "etc/ssl/cert.pem").symlink_to("certs/ca-certificates.crt")
        assert answer(tmp_path)["remaining"] == ""


def answer(root):
    """What is said about the only store of an image."""
    (store,) = json.loads(CliRunner().invoke(kubetls, ["image-check", "--json", str(root)]).stdout)[
        "stores"
    ]
    return store
