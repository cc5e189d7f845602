# SPDX-License-Identifier: Apache-2.0
"""The files of a mounted volume: which names, and what stands in each, for every layout.

Rules:
    1. One file per trust domain; bundles of two domains are never put together.
    2. A partner's bundle has the same name in every layout.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, get_args

from cryptography.hazmat.primitives.serialization import Encoding

from kubetls_sdk import volume
from kubetls_sdk.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kubetls_sdk.bundle import TrustBundle, TrustBundleSet
    from kubetls_sdk.svid import X509Svid
    from kubetls_sdk.testing.authority import IssuedChain

__all__ = ("LAYOUTS", "Layout", "credential_names", "volume_files")

Layout = Literal["spiffe", "kubernetes-tls", "spiffe-helper"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
"""The names of the layouts that `kubetls_sdk.volume` recognises."""

_order = random.SystemRandom()
_LAYOUTS = {each.name: each for each in volume.LAYOUTS}


def volume_files(
    svid: X509Svid | IssuedChain,
    bundles: Iterable[TrustBundle] | TrustBundleSet,
    layout: Layout = "spiffe",
    *,
    own: str | None = None,
    shuffle: bool = False,
) -> dict[str, bytes]:
    """The files that an issuer would write.

    Args:
        svid: A right SVID, or a faulty chain.
        bundles: Whom the workload trusts, one bundle for each trust domain.
        layout: `spiffe` has key and chain in one file.
        own: The name of the workload's own trust domain; the one in the SVID by default, and for
            a faulty chain that of the first bundle.
        shuffle: Put the certificates of each bundle in random order, as the kubelet does.

    Raises:
        ConfigurationError: The layout is unknown.
    """
    if layout not in LAYOUTS:
        raise ConfigurationError(f"expected a layout of {', '.join(LAYOUTS)}; got {layout!r}")
    given = list(bundles.values() if isinstance(bundles, Mapping) else bundles)
    own = own or _own_name(svid, given)
    files = _credential_files(svid, layout)
    for bundle in given:
        name = volume.bundle_file_name(bundle.trust_domain)
        if str(bundle.trust_domain) == own:
            name = _LAYOUTS[layout].own_bundle or name
        files[name] = _bundle_pem(bundle, shuffle=shuffle)
    return files


def _own_name(svid: X509Svid | IssuedChain, bundles: list[TrustBundle]) -> str | None:
    spiffe_id = getattr(svid, "spiffe_id", None)
    if spiffe_id is not None:
        return str(spiffe_id.trust_domain)
    return str(bundles[0].trust_domain) if bundles else None


def credential_names(layout: Layout) -> tuple[str, str]:
    """The files of the key and of the chain; one and the same in `spiffe`."""
    return _LAYOUTS[layout].private_key, _LAYOUTS[layout].certificate


def _credential_files(svid: X509Svid | IssuedChain, layout: Layout) -> dict[str, bytes]:
    key_file, chain_file = credential_names(layout)
    key, chain = svid.private_key_pem(), svid.certificates_pem()
    if key_file == chain_file:
        return {key_file: key + chain}
    return {key_file: key, chain_file: chain}


def _bundle_pem(bundle: TrustBundle, *, shuffle: bool) -> bytes:
    pems = [authority.public_bytes(Encoding.PEM) for authority in bundle.authorities]
    if shuffle:
        _order.shuffle(pems)
    return b"".join(pems)
