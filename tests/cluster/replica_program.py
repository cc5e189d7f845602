# SPDX-License-Identifier: Apache-2.0
"""Runs one replica of the signer or of the secret issuer, as the image does, with a kubeconfig."""

from __future__ import annotations

import argparse
import asyncio
import logging
from pathlib import Path

from webhook.signing.run import SignerSettings
from webhook.signing.run import run as run_signer


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("part", choices=["sign", "secrets"])
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--identity", required=True)
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    settings = {
        "config": given.config,
        "identity": given.identity,
        "kubeconfig": given.kubeconfig,
        "host": "127.0.0.1",
        "status_port": 0,
    }
    if given.part == "sign":
        asyncio.run(run_signer(SignerSettings(**settings, keeps_serving=False)))
        return
    from webhook.secrets.run import SecretIssuerSettings
    from webhook.secrets.run import run as run_secrets

    asyncio.run(run_secrets(SecretIssuerSettings(**settings)))


if __name__ == "__main__":
    main()
