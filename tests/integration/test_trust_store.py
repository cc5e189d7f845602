# SPDX-License-Identifier: Apache-2.0
"""Real clients in a container with the injected trust store: the zone's servers, not the web's."""

from __future__ import annotations

import pytest

from tests.integration.trust_store_clients import installed
from tests.integration.trust_store_world import (
    NAMESPACE,
    Container,
    internal_server,
    new_authorities,
    public_server,
)
from tests.webhook.injection.world import annotated

pytestmark = [
    pytest.mark.skipif(NAMESPACE is None, reason="needs a mount namespace of its own"),
    pytest.mark.timeout(120),
]
INTERNAL = annotated(trust_store="internal")
STAY = (
    "certifi",
    "requests without the environment",
    "httpx without the environment",
    "ExternalClient",
)
"""What the documentation says is not covered."""
ONCE = ("grpc",)
"""What reads its roots once in a process, as the documentation says."""
WITHIN = ("node",)
"""What has its roots within its program: ours cannot be put there."""
COVERED = [name for name in installed() if name not in STAY]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What each client reaches: in the image as it is, with the injection, after a rotation."""
    folder = tmp_path_factory.mktemp("trust-store")
    ca, authority = new_authorities()
    results = {}
    with internal_server(folder, ca) as internal, public_server(folder, authority) as public:
        servers = {"internal": internal, "public": public}
        for name, annotations in (("image", None), ("injected", INTERNAL)):
            (folder / name).mkdir()
            container = Container(folder / name, authority, ca.bundle.to_pem(), annotations)
            with container.running() as ask:
                results[name] = ask(**servers)
                if name == "injected":
                    results["rotated"] = rotated(folder, container, ask, internal, ca)
    return results


def rotated(folder, container, ask, old, ca):
    """The same process after its zone went from one root to the next."""
    ca.add_root()
    ca.activate_root()
    ca.retire_root()
    container.publish(ca.bundle.to_pem())
    with internal_server(folder, ca) as new:
        return ask(old=old, new=new)


class TestTrustStore:
    @pytest.mark.parametrize("name", installed())
    def test_the_image_as_it_is(self, found, name):
        """Without the annotation each client believes the web, and no service of the zone."""
        assert found["image"][name] == ([] if name in WITHIN else ["public"])

    @pytest.mark.parametrize("name", COVERED)
    def test_injected(self, found, name):
        """With it, each believes the zone's services by their DNS names, and not the web."""
        assert found["injected"][name] == ["internal"]

    @pytest.mark.parametrize("name", STAY)
    def test_not_covered(self, found, name):
        """Who names certifi's file gets certifi's roots; nobody is changed behind its back."""
        assert found["injected"][name] == ["public"]

    @pytest.mark.parametrize("name", [name for name in COVERED if name not in ONCE])
    def test_rotation(self, found, name):
        """In a running process new contexts follow the file: the removed root is out at once."""
        assert found["rotated"][name] == ["new"]

    @pytest.mark.parametrize("name", ONCE)
    def test_read_once(self, found, name):
        """A process with gRPC keeps the roots that it began with."""
        assert found["rotated"][name] == ["old"]
