# SPDX-License-Identifier: Apache-2.0
"""What the kubelet asks for is taken whole, or refused by the name of what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.webhook.node.requests import (
    ATTRIBUTE,
    POD,
    TOKEN,
    TOKENS,
    publish_request,
    tokens,
)
from webhook.node.protocol import csi_pb2
from webhook.node.publication import (
    InvalidPublication,
    Publication,
    parse_target,
    parse_token,
    parse_volume_id,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from webhook.node.protocol.csi_pb2 import NodePublishVolumeRequest

KUBELET = Path("/var/lib/kubelet")


def without(key: str) -> Callable[[NodePublishVolumeRequest], object]:
    return lambda request: request.volume_context.pop(ATTRIBUTE + key)


def attribute(key: str, value: str) -> Callable[[NodePublishVolumeRequest], object]:
    return lambda request: request.volume_context.update({ATTRIBUTE + key: value})


def field(**fields: object) -> Callable[[NodePublishVolumeRequest], object]:
    def spoil(request: NodePublishVolumeRequest) -> None:
        for name, value in fields.items():
            setattr(request, name, value)

    return spoil


def mount(**fields: object) -> Callable[[NodePublishVolumeRequest], object]:
    def spoil(request: NodePublishVolumeRequest) -> None:
        request.volume_capability.mount.CopyFrom(
            csi_pb2.VolumeCapability.MountVolume(**fields)  # type: ignore[arg-type]
        )

    return spoil


SPOILT = [
    pytest.param(field(volume_id=""), "volume_id", id="no-volume-id"),
    pytest.param(field(volume_id="v" * 129), "volume_id", id="long-volume-id"),
    pytest.param(field(target_path=""), "target_path", id="no-target"),
    pytest.param(field(target_path="/etc/ssl"), "target_path", id="target-elsewhere"),
    pytest.param(
        lambda request: request.ClearField("volume_capability"),
        "volume_capability",
        id="no-capability",
    ),
    pytest.param(
        lambda request: request.volume_capability.ClearField("mount"),
        "volume_capability",
        id="no-access-type",
    ),
    pytest.param(
        lambda request: request.volume_capability.block.SetInParent(),
        "volume_capability",
        id="block-device",
    ),
    pytest.param(mount(fs_type="ext4"), "volume_capability", id="file-system"),
    pytest.param(mount(mount_flags=["suid"]), "volume_capability", id="mount-flags"),
    pytest.param(mount(volume_mount_group="-1"), "volume_mount_group", id="negative-group"),
    pytest.param(mount(volume_mount_group="wheel"), "volume_mount_group", id="group-name"),
    pytest.param(mount(volume_mount_group="4294967295"), "volume_mount_group", id="no-group-id"),
    pytest.param(mount(volume_mount_group="\u0661"), "volume_mount_group", id="other-digits"),
    pytest.param(field(readonly=False), "readonly", id="writable"),
    pytest.param(without("ephemeral"), f"{ATTRIBUTE}ephemeral", id="no-lifecycle"),
    pytest.param(attribute("ephemeral", "false"), f"{ATTRIBUTE}ephemeral", id="persistent"),
    pytest.param(without("pod.namespace"), f"{ATTRIBUTE}pod.namespace", id="no-namespace"),
    pytest.param(without("pod.name"), f"{ATTRIBUTE}pod.name", id="no-pod"),
    pytest.param(without("pod.uid"), f"{ATTRIBUTE}pod.uid", id="no-uid"),
    pytest.param(
        without("serviceAccount.name"), f"{ATTRIBUTE}serviceAccount.name", id="no-account"
    ),
    pytest.param(attribute("pod.name", "web/../db"), f"{ATTRIBUTE}pod.name", id="path-as-pod"),
    pytest.param(attribute("pod.name", "web-0\n"), f"{ATTRIBUTE}pod.name", id="newline"),
    pytest.param(attribute("pod.namespace", "Shop"), f"{ATTRIBUTE}pod.namespace", id="upper-case"),
    pytest.param(attribute("pod.uid", "a/b"), f"{ATTRIBUTE}pod.uid", id="path-as-uid"),
    pytest.param(attribute("pod.uid", "another"), "target_path", id="place-of-another-pod"),
    pytest.param(attribute("pod.uid", POD.uid[:-1]), "target_path", id="same-beginning"),
]


class TestPublication:
    @pytest.mark.parametrize("group", [None, 0, 2000, 2**32 - 2])
    def test_takes_what_the_kubelet_sends(self, tmp_path: Path, group: int | None) -> None:
        """A complete request gives the volume, its place, the pod and the pod's group."""
        request = publish_request(tmp_path, group=group)
        expected = Publication("csi-1", Path(request.target_path), POD, group)
        assert Publication.parse(request, tmp_path) == expected

    @pytest.mark.parametrize(("spoil", "name"), SPOILT)
    def test_names_what_is_wrong(
        self, tmp_path: Path, spoil: Callable[[NodePublishVolumeRequest], object], name: str
    ) -> None:
        """What is missing or cannot be served is refused by its field's name."""
        request = publish_request(tmp_path)
        spoil(request)
        with pytest.raises(InvalidPublication) as refused:
            Publication.parse(request, tmp_path)
        assert refused.value.field == name
        assert str(refused.value).startswith(f"{name}: expected ")
        assert TOKEN not in str(refused.value)

    def test_says_how_to_make_it_read_only(self, tmp_path: Path) -> None:
        """The author of a pod with a writable volume reads which field to set."""
        request = publish_request(tmp_path)
        request.readonly = False
        with pytest.raises(InvalidPublication, match="set readOnly: true at the pod's csi volume"):
            Publication.parse(request, tmp_path)

    def test_holds_no_token(self, tmp_path: Path) -> None:
        """The token is no part of a publication, so that nothing shows or stores it."""
        assert TOKEN not in repr(Publication.parse(publish_request(tmp_path), tmp_path))


class TestParseTarget:
    @pytest.mark.parametrize("text", ["/var/lib/kubelet/a", "/var/lib/kubelet/a/b/mount/"])
    def test_takes_what_is_inside(self, text: str) -> None:
        """A target is strictly inside the kubelet's folder."""
        assert parse_target(text, KUBELET) == Path(text)

    @pytest.mark.parametrize(
        "text",
        [
            pytest.param("", id="nothing"),
            pytest.param("/", id="root"),
            pytest.param("/var/lib/kubelet", id="the-folder-itself"),
            pytest.param("/var/lib/kubelet/", id="the-folder-with-slash"),
            pytest.param("/var/lib/kubelet/../../../etc", id="parent"),
            pytest.param("/var/lib/kubelet/a/../b", id="parent-inside"),
            pytest.param("/var/lib/kubelet/a/..", id="parent-last"),
            pytest.param("/var/lib/kubelet/./a", id="dot"),
            pytest.param("/var/lib/kubelet//a", id="empty-segment"),
            pytest.param("//var/lib/kubelet/a", id="two-slashes"),
            pytest.param("var/lib/kubelet/a", id="relative"),
            pytest.param("/var/lib/kubelet-2/a", id="same-beginning"),
            pytest.param("/var/lib/kubelet/a\0b", id="nul"),
            pytest.param("/var/lib/kubelet/" + "a/" * 2100 + "b", id="too-long"),
        ],
    )
    def test_refuses_all_else(self, text: str) -> None:
        """What is outside, or not written the shortest way, is no target."""
        with pytest.raises(InvalidPublication) as refused:
            parse_target(text, KUBELET)
        assert refused.value.field == "target_path"


class TestParseVolumeId:
    @pytest.mark.parametrize("volume_id", ["csi-1", "../../etc", "a\0b", "é" * 64])
    def test_takes_any_form(self, volume_id: str) -> None:
        """A volume's id is never part of a path, and so may have any form of at most 128 bytes."""
        assert parse_volume_id(volume_id) == volume_id

    @pytest.mark.parametrize("volume_id", ["", "é" * 65])
    def test_refuses_what_the_interface_does(self, volume_id: str) -> None:
        """An id is there, and no longer than the interface allows."""
        with pytest.raises(InvalidPublication):
            parse_volume_id(volume_id)


class TestParseToken:
    @pytest.mark.parametrize("audience", ["", "kubetls"])
    def test_takes_the_token_of_the_audience(self, tmp_path: Path, audience: str) -> None:
        """The token is the one of the configured audience, the API server's own included."""
        request = publish_request(tmp_path)
        request.volume_context[TOKENS] = tokens(audience=audience)
        assert parse_token(request, audience) == TOKEN

    def test_takes_it_from_the_secrets(self, tmp_path: Path) -> None:
        """Kubelets that keep tokens out of the attributes send them among the secrets."""
        request = publish_request(tmp_path)
        request.secrets[TOKENS] = request.volume_context.pop(TOKENS)
        assert parse_token(request, "") == TOKEN

    @pytest.mark.parametrize(
        "text",
        [
            pytest.param("", id="nothing"),
            pytest.param("{}", id="none"),
            pytest.param(tokens(audience="somebody-else"), id="another-audience"),
            pytest.param('{"": {"token": ""}}', id="empty"),
            pytest.param('{"": {"token": 7}}', id="no-text"),
            pytest.param('{"": "secret-text"}', id="no-object"),
            pytest.param('["secret-text"]', id="a-list"),
            pytest.param("secret-text", id="no-json"),
            pytest.param("[" * 100_000, id="deep"),
            pytest.param(tokens("secret\r\nX-Remote-User: admin"), id="header"),
            pytest.param(tokens("secret\n"), id="newline"),
            pytest.param(tokens("secret\u00e9"), id="no-ascii"),
            pytest.param(tokens("secret" * 3000), id="huge"),
        ],
    )
    def test_refuses_all_else(self, tmp_path: Path, text: str) -> None:
        """A token of another audience is none, and no text of what came is repeated."""
        request = publish_request(tmp_path)
        request.volume_context[TOKENS] = text
        with pytest.raises(InvalidPublication) as refused:
            parse_token(request, "")
        assert refused.value.field == TOKENS
        assert "secret" not in str(refused.value)
        assert TOKEN not in str(refused.value)
        assert refused.value.__suppress_context__
