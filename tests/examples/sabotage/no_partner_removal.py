# SPDX-License-Identifier: Apache-2.0
"""`kubetls` that never forgets a partner: what was declared once stays trusted."""

from __future__ import annotations

import kubetls_sdk.federation.source
from kubetls_sdk.cli import main
from tests.examples.sabotage.no_root_removal import remembering

if __name__ == "__main__":
    vars(kubetls_sdk.federation.source)["TrustBundleSet"] = remembering
    main()
