# SPDX-License-Identifier: Apache-2.0
"""`kubetls image-check` finds whom an image believes, and an image cannot lead it astray."""

from __future__ import annotations

import json
import os
import struct
import time

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption
from cryptography.hazmat.primitives.serialization.pkcs12 import (
    PKCS12Certificate,
    serialize_java_truststore,
)

from kubetls_sdk.cli.command_line import kubetls
from kubetls_sdk.cli.doctor import doctor
from kubetls_sdk.diagnosis.image import survey
from kubetls_sdk.diagnosis.image.root_directory import RootDirectory
from kubetls_sdk.diagnosis.image.roots import UncountableError, count_embedded, fingerprints
from kubetls_sdk.testing import DevelopmentCA, KubeletVolume
from tests.unprivileged import reachable_directory, without_privileges


@pytest.fixture(scope="module")
def authorities():
    return [DevelopmentCA(f"web{n}.example").authority for n in range(6)]


@pytest.fixture(scope="module")
def pem(authorities):
    return b"".join(each.public_bytes(Encoding.PEM) for each in authorities)


@pytest.fixture
def rootfs(tmp_path):
    (tmp_path / "image").mkdir()
    return tmp_path / "image"


def put(rootfs, path, content):
    target = rootfs / path.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    return target


def link(rootfs, path, target):
    place = rootfs / path.lstrip("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target)


def run(rootfs, *options):
    return CliRunner().invoke(kubetls, ["image-check", str(rootfs), *options])


def check(rootfs, *options):
    result = run(rootfs, "--json", *options)
    document = json.loads(result.stdout)
    assert result.exit_code == (0 if document["clean"] else 1)
    return document


def stores(rootfs, *options):
    found = check(rootfs, *options)["stores"]
    return {each["path"]: (each["kind"], each["roots"]) for each in found}


def keystore(authorities, *, magic=0xFEEDFEED, version=2, tag=2):
    content = struct.pack(">III", magic, version, len(authorities))
    for number, each in enumerate(authorities):
        der = each.public_bytes(Encoding.DER)
        alias = f"root{number}".encode()
        content += struct.pack(">IH", tag, len(alias)) + alias + struct.pack(">Q", 0)
        content += (struct.pack(">H", 5) + b"X.509") if version > 1 else b""
        content += struct.pack(">I", len(der)) + der
    return content + bytes(20)


class TestStores:
    @pytest.mark.parametrize(
        ("path", "kind"),
        [
            ("/etc/ssl/certs/ca-certificates.crt", "bundle"),
            ("/etc/pki/tls/certs/ca-bundle.crt", "bundle"),
            ("/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "bundle"),
            ("/etc/ssl/cert.pem", "bundle"),
            ("/nix/store/abc-cacert/etc/ssl/certs/ca-bundle.crt", "bundle"),
            ("/opt/conda/ssl/cacert.pem", "bundle"),
            ("/venv/lib/python3.13/site-packages/certifi/cacert.pem", "certifi"),
            ("/venv/lib/python3.13/site-packages/pip/_vendor/certifi/cacert.pem", "pip"),
            ("/venv/lib/python3.13/site-packages/botocore/cacert.pem", "botocore"),
            ("/v/lib/python3.13/site-packages/grpc/_cython/_credentials/roots.pem", "grpc"),
            ("/usr/share/pki/ca-trust-source/ca-bundle.trust.p11-kit", "p11-kit"),
            ("/srv/hidden.pem", "other"),
        ],
    )
    def test_kinds(self, rootfs, pem, path, kind):
        """Each place where programs look is found, with the number of roots."""
        put(rootfs, path, b"# comment\n" + pem)
        assert stores(rootfs) == {path: (kind, 6)}

    @pytest.mark.parametrize(
        "directory",
        ["/etc/ssl/certs", "/etc/pki/tls/certs", "/usr/share/ca-certificates"],
    )
    def test_directories(self, rootfs, authorities, directory):
        """Certificates in files of their own count together, each once, in PEM and DER."""
        for number, each in enumerate(authorities):
            form = Encoding.DER if number == 0 else Encoding.PEM
            put(rootfs, f"{directory}/mozilla/{number}.crt", each.public_bytes(form))
            link(rootfs, f"{directory}/{number:08x}.0", f"mozilla/{number}.crt")
        assert stores(rootfs) == {directory: ("directory", 6)}

    @pytest.mark.parametrize("version", [1, 2])
    @pytest.mark.parametrize("magic", [0xFEEDFEED, 0xCECECECE], ids=["jks", "jceks"])
    def test_java(self, rootfs, authorities, version, magic):
        """Trusted certificates of a Java keystore are counted."""
        path = "/usr/lib/jvm/java/lib/security/cacerts"
        put(rootfs, path, keystore(authorities, version=version, magic=magic))
        assert stores(rootfs) == {path: ("java", 6)}

    def test_java_pkcs12(self, rootfs, authorities):
        """A keystore that is not opened is reported as unknown, and is not clean."""
        content = serialize_java_truststore(
            [PKCS12Certificate(each, None) for each in authorities], NoEncryption()
        )
        path = "/usr/lib/jvm/java/lib/security/cacerts"
        put(rootfs, path, content)
        assert stores(rootfs) == {path: ("java", None)}

    def test_node(self, rootfs, pem):
        """The roots within Node's program are counted, also across the pieces of reading."""
        text = pem.replace(b"\n", b"\\n")
        content = bytes(1024 * 1024 - 10) + text + bytes(100)
        put(rootfs, "/usr/local/bin/node", content)
        link(rootfs, "/usr/bin/nodejs", "/usr/local/bin/node")
        (found,) = check(rootfs)["stores"]
        assert (found["kind"], found["roots"]) == ("node", 6)

    def test_links(self, rootfs, pem):
        """A file that many links lead to is one store."""
        put(rootfs, "/etc/pki/ca.pem", pem)
        link(rootfs, "/etc/pki/tls/certs/ca-bundle.crt", "/etc/pki/ca.pem")
        link(rootfs, "/etc/ssl/cert.pem", "../pki/tls/certs/ca-bundle.crt")
        (found,) = check(rootfs)["stores"]
        everywhere = {found["path"], *found["links"]}
        assert everywhere == {
            "/etc/pki/ca.pem",
            "/etc/pki/tls/certs/ca-bundle.crt",
            "/etc/ssl/cert.pem",
        }

    def test_few_certificates_in_any_file(self, rootfs, authorities):
        """A certificate chain of somebody's is no trust store."""
        chain = b"".join(each.public_bytes(Encoding.PEM) for each in authorities[:4])
        put(rootfs, "/etc/app/tls.pem", chain)
        assert stores(rootfs) == {}

    def test_users(self, rootfs):
        """Programs and Python packages that use the stores are named, optional needs apart."""
        site = "/venv/lib/python3.13/site-packages"
        put(
            rootfs,
            f"{site}/httpx-0.28.1.dist-info/METADATA",
            b"Name: httpx\nRequires-Dist: certifi\n",
        )
        put(rootfs, f"{site}/a-1.dist-info/METADATA", b"Requires-Dist: certifi; extra == 'web'\n")
        put(rootfs, f"{site}/b-1.dist-info/METADATA", b"Requires-Dist: certifi-win32\n")
        put(rootfs, "/usr/bin/curl", b"")
        found = check(rootfs)
        assert found["certifi_users"] == ["httpx 0.28.1"]
        assert found["programs"] == ["/usr/bin/curl"]


class TestAnswer:
    def test_clean(self, rootfs):
        """An image without roots is clean."""
        put(rootfs, "/app/main.py", b"")
        result = run(rootfs)
        assert (result.exit_code, result.stdout) == (
            0,
            "0 trust stores, 0 with roots that are not expected\n",
        )

    def test_text(self, rootfs, pem):
        """People read where, how many, for whom, and what to set."""
        put(rootfs, "/etc/ssl/cert.pem", pem)
        put(rootfs, "/usr/bin/curl", b"")
        lines = run(rootfs).stdout.splitlines()
        assert lines[0] == "/etc/ssl/cert.pem: 6 roots (bundle)"
        assert "curl" in lines[1]
        assert "SSL_CERT_FILE" in lines[2]
        assert lines[-1] == "1 trust stores, 1 with roots that are not expected"

    def test_expected(self, rootfs, tmp_path, authorities, pem):
        """Internal authorities may be there; one more than these may not."""
        internal = tmp_path / "internal.pem"
        internal.write_bytes(b"".join(a.public_bytes(Encoding.PEM) for a in authorities[:5]))
        put(rootfs, "/etc/ssl/cert.pem", internal.read_bytes())
        assert check(rootfs, "--expect", str(internal))["clean"] is True
        put(rootfs, "/etc/ssl/cert.pem", pem)
        found = check(rootfs, "--expect", str(internal))
        assert (found["clean"], found["stores"][0]["unexpected"]) == (False, 1)

    @pytest.mark.parametrize("content", [b"", b"nothing", b"\x30\x82\x00\x01"])
    def test_expected_is_nothing(self, rootfs, tmp_path, content):
        """A file without certificates is a mistake, and no permission."""
        path = tmp_path / "internal.pem"
        path.write_bytes(content)
        result = run(rootfs, "--expect", str(path))
        assert (result.exit_code, result.stdout) == (2, "")
        assert "expected certificates" in result.stderr

    @pytest.mark.parametrize("name", ["missing", "file"])
    def test_no_image(self, tmp_path, name):
        """What is no directory is an error."""
        (tmp_path / "file").write_bytes(b"")
        assert run(tmp_path / name).exit_code == 2

    def test_control_characters(self, rootfs, pem):
        """Names of files cannot drive a terminal."""
        put(rootfs, "/\x1b[2J/certifi/cacert.pem", pem)
        assert "\x1b" not in run(rootfs).stdout
        assert "\x1b" not in run(rootfs, "--json").stdout


class TestHostileImage:
    """Whoever made the image wants us to read outside, to hang, or to say that it is clean."""

    @pytest.mark.parametrize(
        "target", ["{outside}", "../../../../../../../../../..{outside}", "/up/up/up{outside}"]
    )
    def test_links_out(self, rootfs, tmp_path, pem, target):
        """Links that lead out of the image lead nowhere."""
        outside = tmp_path / "outside.pem"
        outside.write_bytes(pem)
        link(rootfs, "/up", "..")
        link(rootfs, "/etc/ssl/cert.pem", target.format(outside=outside))
        link(rootfs, "/etc/ssl/certs", tmp_path)
        assert stores(rootfs) == {}

    def test_absolute_link_is_of_the_image(self, rootfs, pem):
        """An absolute link leads to the file of that path inside."""
        put(rootfs, "/etc/passwd", pem)
        link(rootfs, "/etc/ssl/cert.pem", "/etc/passwd")
        assert stores(rootfs) == {"/etc/ssl/cert.pem": ("bundle", 6)}

    def test_parent_of_a_linked_directory(self, rootfs, pem):
        """`..` behind a link is the parent of where it leads, as for the kernel."""
        put(rootfs, "/real/deep/x", b"")
        put(rootfs, "/real/roots", pem)
        link(rootfs, "/way", "/real/deep")
        link(rootfs, "/etc/ssl/cert.pem", "/way/../roots")
        assert stores(rootfs) == {"/etc/ssl/cert.pem": ("bundle", 6)}

    @pytest.mark.parametrize("target", ["cert.pem", "/etc/ssl/../ssl/cert.pem"])
    def test_loops(self, rootfs, target):
        """A loop of links ends, and is not clean."""
        link(rootfs, "/etc/ssl/cert.pem", target)
        (found,) = check(rootfs)["stores"]
        assert (found["roots"], found["problem"]) == (None, "Too many levels of symbolic links")

    def test_long_link(self, rootfs):
        """A link of thousands of components opens no thousands of directories."""
        (rootfs / "d").mkdir()
        link(rootfs, "/etc/ssl/cert.pem", "/d/.." * 800)
        before = len(os.listdir("/proc/self/fd"))
        (found,) = check(rootfs)["stores"]
        assert found["roots"] is None
        assert len(os.listdir("/proc/self/fd")) == before

    def test_fifo(self, rootfs):
        """A FIFO does not block, and is not clean."""
        (rootfs / "etc/ssl").mkdir(parents=True)
        os.mkfifo(rootfs / "etc/ssl/cert.pem")
        (found,) = check(rootfs)["stores"]
        assert found["problem"] == "not a regular file"

    def test_deep(self, rootfs):
        """Directories that are nested too deeply are said to be left out."""
        place = rootfs
        for _ in range(80):
            place /= "d"
        place.mkdir(parents=True)
        assert "cannot be listed" in check(rootfs)["problems"][0]

    @pytest.mark.parametrize("make", ["files", "directories"])
    def test_many(self, rootfs, make):
        """Beyond the bound it ends, and says so."""
        for number in range(20):
            path = rootfs / f"{number}"
            path.mkdir() if make == "directories" else path.write_bytes(b"")
        assert check(rootfs, "--max-entries", "20")["clean"] is True
        found = check(rootfs, "--max-entries", "19")
        assert found["problems"] == ["more than 19 files: the rest was left out"]

    @pytest.mark.parametrize("path", ["/etc/ssl/cert.pem", "/srv/any.pem"])
    def test_huge(self, rootfs, path):
        """A file beyond the bound is not read to its end, and is not clean."""
        with put(rootfs, path, b"").open("wb") as file:
            file.truncate(1 << 40)
        (found,) = check(rootfs)["stores"]
        assert found["roots"] is None
        assert "bytes" in found["problem"]

    def test_unreadable(self, pem):
        """What this user may not read is not clean."""
        with reachable_directory() as directory:
            path = put(directory, "/etc/ssl/cert.pem", pem)
            path.chmod(0)
            with without_privileges():
                (found,) = survey(directory).stores
        assert (found.problem, found.is_clean) == ("Permission denied", False)

    @pytest.mark.parametrize(
        "content",
        [
            pytest.param(b"-----BEGIN CERTIFICATE-----\n" * 300_000, id="begins"),
            pytest.param(b"-----BEGIN " * 1_000_000, id="half-begins"),
            pytest.param(b"-----END " * 1_000_000, id="ends"),
        ],
    )
    def test_quadratic(self, content):
        """Blocks without an end take no more than one pass."""
        started = time.process_time()
        fingerprints(content)
        assert time.process_time() - started < 5


class TestFingerprints:
    def test_broken_block(self):
        """A block that cannot be decoded still counts: another program may be lenient."""
        block = b"-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n"
        assert len(fingerprints(block)) == 1

    def test_trusted_form(self, authorities):
        """OpenSSL's own form is the same certificate, whatever settings are behind it."""
        from kubetls_sdk import _pem

        der = authorities[0].public_bytes(Encoding.DER)
        plain = _pem.encode("CERTIFICATE", der)
        trusted = _pem.encode("TRUSTED CERTIFICATE", der + b"\x30\x00")
        assert fingerprints(plain) == fingerprints(trusted)

    @pytest.mark.parametrize("end", [14, 40, -500])
    def test_keystore_cut_off(self, authorities, end):
        """A keystore that is cut off has no number."""
        with pytest.raises(UncountableError, match="cut off"):
            fingerprints(keystore(authorities)[:end])

    def test_keystore_with_keys(self, authorities):
        """Neither has one with keys."""
        with pytest.raises(UncountableError, match="keys"):
            fingerprints(keystore(authorities, tag=1))

    def test_embedded(self, pem):
        """A marker that is torn between two pieces is counted once."""
        pieces = (pem[i : i + 7] for i in range(0, len(pem), 7))
        assert count_embedded(pieces) == 6


class TestRootDirectory:
    def test_leaves_nothing_open(self, rootfs, pem):
        """Every directory on the way is closed again, on success and on failure."""
        put(rootfs, "/a/b/c", pem)
        before = len(os.listdir("/proc/self/fd"))
        with RootDirectory(rootfs) as root:
            with root.open("/a/b/c") as file:
                assert file.read(10) == pem[:10]
            for path in ("/a/b", "/a/x/c", "/a/b/c/d"):
                with pytest.raises(OSError, match=r"."):
                    root.open(path)
        assert len(os.listdir("/proc/self/fd")) == before


class TestDoctor:
    @pytest.fixture
    def volume(self, tmp_path):
        ca = DevelopmentCA("example.org")
        made = KubeletVolume(tmp_path / "volume")
        made.write_svid(ca.issue(), [ca.bundle])
        made.bundle = ca.bundle
        return made

    def examine(self, volume, *options):
        result = CliRunner().invoke(doctor, [str(volume.directory), "--json", *options])
        assert result.exit_code == 0
        return [(f["name"], f["path"]) for f in json.loads(result.stdout)["findings"]]

    def test_image(self, rootfs, volume, pem):
        """With --image other roots than the mounted ones are a warning."""
        put(rootfs, "/etc/ssl/cert.pem", pem)
        put(rootfs, "/etc/pki/tls/certs/ca-bundle.crt", volume.bundle.to_pem())
        assert self.examine(volume, "--image", str(rootfs)) == [("web-roots", "/etc/ssl/cert.pem")]
        assert self.examine(volume) == []

    def test_said_once(self, rootfs, volume, pem):
        """What to do about several stores is said once, below them."""
        put(rootfs, "/etc/ssl/cert.pem", pem)
        put(rootfs, "/usr/lib/ssl/cert.pem", pem)
        text = CliRunner().invoke(doctor, [str(volume.directory), "--image", str(rootfs)]).output
        words = [line.split()[0] for line in text.splitlines()]
        assert words == ["warning:", "found", "found", "do"]

    def test_incomplete(self, rootfs, volume):
        """What could not be looked at is a warning as well."""
        place = rootfs
        for _ in range(80):
            place /= "d"
        place.mkdir(parents=True)
        assert self.examine(volume, "--image", str(rootfs)) == [("web-roots", str(rootfs))]
