# SPDX-License-Identifier: Apache-2.0
"""The attack of a partner that turned bad: its CA signs a name of OUR trust domain.

    python forge.py theirs forged

`forged` is a volume with the identity of our `web`, signed by the partner's root.
"""

import sys

from kubetls_sdk.testing import DevelopmentCA, KubeletVolume

OURS, WEB = "example.org", "/ns/shop/sa/web"


def main(partner: str, volume: str) -> None:
    ca = DevelopmentCA.load(partner)
    KubeletVolume(volume).write_svid(ca.issue_for(OURS, WEB), [ca.bundle])


if __name__ == "__main__":
    main(*sys.argv[1:])
