# SPDX-License-Identifier: Apache-2.0
"""The parts of the real node that need neither root nor its programs."""

from __future__ import annotations

import hashlib
import io
import json
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest

from cluster import ProgramMissingError
from cluster.node import configuration, tools, write_image
from cluster.node.compiled import compiled
from cluster.node.control_groups import find_groups, remove_groups
from cluster.node.image import Link, Script
from cluster.node.sandbox import Plan
from cluster.node.tree import closure, python_command, python_tree

NAME = "kubetls.example/app:1"
CONTAINER = "5d" * 32


@pytest.fixture
def image(tmp_path: Path) -> tarfile.TarFile:
    program = tmp_path / "program"
    program.write_bytes(b"run me")
    program.chmod(0o755)
    tree = {"/bin/program": program, "/bin/link": Link("program"), "/etc/text": b"text"}
    tree["/bin/script"] = Script("#!/bin/program\n")
    path = write_image(
        tmp_path / "image.tar", NAME, tree, command=["/bin/program"], environment={"A": "b"}, user=7
    )
    with tarfile.open(path) as archive:
        yield archive


def content(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    assert file is not None
    return file.read()


def blob(archive: tarfile.TarFile, descriptor: dict[str, object]) -> bytes:
    """What a descriptor names, checked against its digest and size."""
    algorithm, _, digest = str(descriptor["digest"]).partition(":")
    found = content(archive, f"blobs/{algorithm}/{digest}")
    assert (hashlib.sha256(found).hexdigest(), len(found)) == (digest, descriptor["size"])
    return found


def manifest(archive: tarfile.TarFile) -> dict:
    index = json.loads(content(archive, "index.json"))
    assert index["manifests"][0]["annotations"]["io.containerd.image.name"] == NAME
    return json.loads(blob(archive, index["manifests"][0]))


class TestWriteImage:
    def test_layer(self, image: tarfile.TarFile) -> None:
        """The layer has files with their modes, contents and links, owned by root."""
        data = blob(image, manifest(image)["layers"][0])
        with tarfile.open(fileobj=io.BytesIO(data)) as layer:
            assert content(layer, "bin/program") == b"run me"
            assert layer.getmember("bin/program").mode == 0o755
            assert layer.getmember("bin/program").uid == 0
            assert content(layer, "bin/script") == b"#!/bin/program\n"
            assert layer.getmember("bin/script").mode == 0o755
            assert layer.getmember("bin/link").linkname == "program"
            assert content(layer, "etc/text") == b"text"
            assert layer.getmember("tmp").mode == 0o1777

    def test_configuration(self, image: tarfile.TarFile) -> None:
        """The configuration says what runs, as whom, and which layer it is made of."""
        document = manifest(image)
        config = json.loads(blob(image, document["config"]))
        assert config["config"]["Entrypoint"] == ["/bin/program"]
        assert "A=b" in config["config"]["Env"]
        assert config["config"]["User"] == "7"
        assert config["rootfs"]["diff_ids"] == [document["layers"][0]["digest"]]


class TestTree:
    def test_closure(self) -> None:
        """What a distribution needs is in, with what its extras need, and nothing else."""
        assert {"kubetls-sdk", "cryptography", "cffi"} <= closure(["kubetls-sdk"])
        assert "uvicorn" not in closure(["kubetls-sdk"])
        assert "uvicorn" in closure(["kubetls-sdk[asgi]"])

    @pytest.mark.slow
    @pytest.mark.skipif(sys.platform != "linux", reason="libraries are found as on Linux")
    def test_python(self, tmp_path: Path) -> None:
        """The interpreter, the standard library, packages, and libraries with the loader."""
        package = tmp_path / "ours"
        package.mkdir()
        (package / "module.py").touch()
        tree = python_tree(["click", "uvicorn", "anyio"], [package])
        assert python_command()[0] in tree
        assert {"/app/ours/module.py", "/app/click/__init__.py"} <= tree.keys()
        assert tree["/usr/bin/python3"] == Link(python_command()[0])
        assert tree["/usr/bin/uvicorn"].text.startswith(f"#!{python_command()[0]}\n")
        assert "/app/anyio/_core/_testing.py" in tree
        assert any(path.endswith("/ssl.py") for path in tree)
        assert any("libc.so" in path or "ld-" in path for path in tree)
        assert not any("/idlelib/" in path or "/_testcapi" in path for path in tree)
        assert not any("/test/" in path or "__pycache__" in path for path in tree)

    def test_compiled(self, tmp_path: Path) -> None:
        """Each module has its compiled form beside it, made once, and again when it has changed."""
        source, cache = tmp_path / "module.py", tmp_path / "compiled"
        source.write_text("name = 1")
        tree = {"/app/module.py": source, "/app/text": b"text"}
        name = f"/app/__pycache__/module.{sys.implementation.cache_tag}.pyc"
        first = compiled(tree, cache)
        assert first.keys() == {*tree, name}
        code = first[name].read_bytes()
        source.write_text("name = 2")
        assert compiled(tree, cache)[name].read_bytes() != code

    def test_module_that_cannot_be_compiled(self, tmp_path: Path) -> None:
        """It is left as it is: some packages carry templates."""
        source = tmp_path / "template.py"
        source.write_text("{{ name }} =")
        tree = {"/app/template.py": source}
        assert compiled(tree, tmp_path / "compiled") == tree


class TestConfiguration:
    def test_containerd(self) -> None:
        """The text is TOML with the folders that it was given."""
        text = configuration.containerd(
            Path("/r"), plugins=Path("/p"), network=Path("/n"), snapshotter="native"
        )
        document = tomllib.loads(text)
        cri = document["plugins"]["io.containerd.grpc.v1.cri"]
        assert document["root"] == "/r"
        assert (cri["cni"]["bin_dir"], cri["cni"]["conf_dir"]) == ("/p", "/n")
        assert cri["restrict_oom_score_adj"]

    def test_kubelet(self) -> None:
        """The kubelet asks everyone for a certificate and listens in the node's network only."""
        text = configuration.kubelet(
            Path("/f"), authority=Path("/ca"), feature_gates={"PodCertificateRequest": False}
        )
        document = json.loads(text)
        assert document["authentication"]["x509"]["clientCAFile"] == "/ca"
        assert document["readOnlyPort"] == 0
        assert document["address"] == configuration.NODE_ADDRESS
        assert document["featureGates"] == {"PodCertificateRequest": False}

    def test_plan_is_read_as_written(self, tmp_path: Path) -> None:
        """The sandbox does what the node has planned."""
        plan = Plan(
            busybox="/b",
            address="10.254.0.1",
            service_network="10.0.0.0/24",
            containerd=["c"],
            containerd_socket="/s",
            image_import=["i"],
            images=[],
            kubelet=["k"],
            disk="/d",
            logs="/l",
        )
        assert Plan.read(plan.write(tmp_path / "plan")) == plan


class TestTools:
    def test_all_that_is_missing(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """The error names everything at once, with the command that installs it."""
        monkeypatch.setattr(tools, "_check_rights", lambda: None)
        monkeypatch.setattr(tools, "_PATH", str(tmp_path))
        monkeypatch.setattr(tools, "_NETWORK_FOLDERS", (tmp_path,))
        monkeypatch.setattr(tools, "_STATIC_BUSYBOX", (tmp_path / "busybox",))
        with pytest.raises(ProgramMissingError, match=r"runc; .*static busybox") as caught:
            tools.find_tools()
        assert "apt-get install containerd runc" in str(caught.value)

    @pytest.mark.parametrize(
        ("platform", "user", "message"),
        [("darwin", 0, "on Linux only"), ("linux", 1000, "needs root")],
    )
    def test_rights(
        self, monkeypatch: pytest.MonkeyPatch, platform: str, user: int, message: str
    ) -> None:
        """Elsewhere, and without root, the error says so before anything else."""
        monkeypatch.setattr(tools.sys, "platform", platform)
        monkeypatch.setattr(tools.os, "geteuid", lambda: user)
        with pytest.raises(ProgramMissingError, match=message):
            tools.find_tools()

    def test_dynamic_busybox(self, tmp_path: Path) -> None:
        """A busybox that needs libraries would not run in an image without any."""
        program = tmp_path / "busybox"
        program.write_bytes(b"\x7fELF....../lib64/ld-linux-x86-64.so.2")
        assert not tools._is_static(program)
        program.write_bytes(b"\x7fELF......")
        assert tools._is_static(program)


class TestControlGroups:
    @pytest.mark.parametrize("parent", ["k8s.io", "memory/k8s.io"], ids=["version 2", "version 1"])
    def test_own_groups_are_removed(self, tmp_path: Path, parent: str) -> None:
        """Groups of the node's containers go, with what is below and above them."""
        (tmp_path / parent / CONTAINER / "below").mkdir(parents=True)
        assert find_groups({CONTAINER}, tmp_path) == [tmp_path / parent / CONTAINER]
        remove_groups({CONTAINER}, tmp_path)
        assert not (tmp_path / parent).exists()

    def test_others_stay(self, tmp_path: Path) -> None:
        """Another containerd's groups are not touched."""
        other = tmp_path / "k8s.io" / "other"
        other.mkdir(parents=True)
        (tmp_path / "k8s.io" / CONTAINER).mkdir()
        remove_groups({CONTAINER}, tmp_path)
        assert other.exists()
        remove_groups(set(), tmp_path)
        assert other.exists()
