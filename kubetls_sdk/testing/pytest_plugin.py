# SPDX-License-Identifier: Apache-2.0
"""Fixtures for tests of applications that use KubeTLS; pytest finds them by itself.

    def test_orders_refuses_a_partner(kubetls_ca, kubetls_partner_ca, kubetls_source):
        server = kubetls_source("/ns/shop/sa/orders", trust=[kubetls_partner_ca])
        client = kubetls_source("/ns/shop/sa/web", ca=kubetls_partner_ca, trust=[kubetls_ca])

| fixture | gives |
|---|---|
| `kubetls_ca` | the trust domain `example.org`, new for each test |
| `kubetls_partner_ca` | the trust domain `partner.example`, new for each test |
| `kubetls_source` | a function that makes a `StaticSource` |
| `kubetls_volume` | a function that makes a mounted directory which rotates |

Rules:
    1. The only module of the package that imports pytest.
    2. Nothing else is imported before a fixture is used, so that other tests start as fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Unpack

    from kubetls_sdk.source import StaticSource

    # Not at run time: pytest evaluates no annotation of a fixture.
    from kubetls_sdk.testing.ca import DevelopmentCA  # noqa: TC004
    from kubetls_sdk.testing.layout import Layout
    from kubetls_sdk.testing.leaf_options import LeafOptions
    from kubetls_sdk.testing.workload_volume import WorkloadVolume

__all__ = (
    "SourceFactory",
    "VolumeFactory",
    "kubetls_ca",
    "kubetls_partner_ca",
    "kubetls_source",
    "kubetls_volume",
)


class SourceFactory(Protocol):
    """The type of the fixture `kubetls_source`."""

    def __call__(
        self,
        path: str = ...,
        *,
        ca: DevelopmentCA | None = ...,
        trust: Sequence[DevelopmentCA] = ...,
        **options: Unpack[LeafOptions],
    ) -> StaticSource:
        """Make a source; see `kubetls_source`."""
        ...


class VolumeFactory(Protocol):
    """The type of the fixture `kubetls_volume`."""

    def __call__(
        self,
        path: str = ...,
        *,
        ca: DevelopmentCA | None = ...,
        trust: Sequence[DevelopmentCA] = ...,
        layout: Layout = ...,
        **options: Unpack[LeafOptions],
    ) -> WorkloadVolume:
        """Make a volume; see `kubetls_volume`."""
        ...


@pytest.fixture
def kubetls_ca() -> DevelopmentCA:
    """The development CA of the trust domain `example.org`; the default of the other fixtures."""
    from kubetls_sdk.testing import DevelopmentCA

    return DevelopmentCA("example.org")


@pytest.fixture
def kubetls_partner_ca() -> DevelopmentCA:
    """The development CA of a second trust domain, `partner.example`: trusted when asked."""
    from kubetls_sdk.testing import DevelopmentCA

    return DevelopmentCA("partner.example")


@pytest.fixture
def kubetls_source(kubetls_ca: DevelopmentCA) -> SourceFactory:
    """A function that makes the source of a workload.

    `kubetls_source("/ns/shop/sa/web", ca=..., trust=[...], ttl=..., ...)`: the SVID is issued by
    `ca` (`kubetls_ca` by default) with the options of `DevelopmentCA.issue`; the source trusts
    `ca` and the partners in `trust`. Rotate with `source.replace(svid=..., bundles=...)`.
    """
    from kubetls_sdk.bundle import TrustBundleSet
    from kubetls_sdk.source import StaticSource

    def make(
        path: str = "/ns/shop/sa/web",
        *,
        ca: DevelopmentCA | None = None,
        trust: Sequence[DevelopmentCA] = (),
        **options: Unpack[LeafOptions],
    ) -> StaticSource:
        """Issue an SVID and make the source."""
        own = ca if ca is not None else kubetls_ca
        bundles = TrustBundleSet(authority.bundle for authority in (own, *trust))
        return StaticSource(own.issue(path, **options), bundles)

    return make


@pytest.fixture
def kubetls_volume(
    kubetls_ca: DevelopmentCA, tmp_path_factory: pytest.TempPathFactory
) -> VolumeFactory:
    """A function that makes the mounted directory of a workload, written as the kubelet does.

    `kubetls_volume("/ns/shop/sa/web", ca=..., trust=[...], layout="spiffe", ...)`: see
    `kubetls_source` for the arguments. The result has `.directory`, `.svid`, `.rotate()`,
    `.write_trust()`, and `.volume` for the ways to write wrongly.
    """
    from kubetls_sdk.testing.workload_volume import WorkloadVolume

    def make(
        path: str = "/ns/shop/sa/web",
        *,
        ca: DevelopmentCA | None = None,
        trust: Sequence[DevelopmentCA] = (),
        layout: Layout = "spiffe",
        **options: Unpack[LeafOptions],
    ) -> WorkloadVolume:
        """Issue an SVID and write the volume."""
        directory: Path = tmp_path_factory.mktemp("kubetls-volume")
        own = ca if ca is not None else kubetls_ca
        return WorkloadVolume(directory, own, path, trust=trust, layout=layout, options=options)

    return make
