# SPDX-License-Identifier: Apache-2.0
"""Ordinary clients in a container: whom does each believe that was told nothing about trust?

`main` reads lines of JSON, `{server: [https port, gRPC port]}`, and answers each with
`{client: [servers that it spoke with]}`.
"""

from __future__ import annotations

import asyncio
import json
import os
import queue
import shutil
import ssl
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor

TIMEOUT = 10
NODE = "require('https').get(process.argv[1], r => {r.resume()}).on('error', () => process.exit(1))"
WITHOUT_VARIABLES = ("env", "-i", f"PATH={os.defpath}")


def _get(url, context):
    urllib.request.urlopen(url, timeout=TIMEOUT, context=context).close()  # noqa: S310


def _ssl(url):
    _get(url, ssl.create_default_context())


def _urllib(url):
    _get(url, None)


def _urllib3(url):
    import urllib3

    with urllib3.PoolManager(retries=False, timeout=TIMEOUT) as pool:
        pool.request("GET", url)


def _requests(url, *, trust_env=True):
    import requests

    with requests.Session() as session:
        session.trust_env = trust_env
        session.get(url, timeout=TIMEOUT)


def _httpx(url, *, trust_env=True):
    import httpx

    with httpx.Client(trust_env=trust_env, timeout=TIMEOUT) as client:
        client.get(url)


def _httpx2(url, *, trust_env=True):
    import httpx2

    with httpx2.Client(trust_env=trust_env, timeout=TIMEOUT) as client:
        client.get(url)


def _truststore(url):
    import truststore

    context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _get(url, context)


def _certifi(url):
    import certifi

    context = ssl.create_default_context(cafile=certifi.where())
    _get(url, context)


def _aiohttp(url):
    import aiohttp

    async def get():
        connector = aiohttp.TCPConnector(ssl=ssl.create_default_context())
        async with aiohttp.ClientSession(connector=connector) as session:
            await session.get(url, timeout=aiohttp.ClientTimeout(TIMEOUT))

    asyncio.run(get())


def _external(url):
    from kubetls_sdk.client.httpx import ExternalClient

    with ExternalClient(web_roots=True, timeout=TIMEOUT) as client:
        client.get(url)


def _run(*command):
    subprocess.run(command, check=True, capture_output=True, timeout=TIMEOUT * 2)


def _pip(url):
    """Fails for want of a package from a server that it believes, and before that otherwise."""
    options = ("--no-deps", "--retries=0", "--disable-pip-version-check", "--no-cache-dir")
    command = (sys.executable, "-m", "pip", "download", *options, "-i", url, "none-such")
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if "SSLError" in done.stderr or "SSLError" in done.stdout:
        raise ssl.SSLError("pip")
    assert "No matching distribution" in done.stderr, done.stderr


PYTHON = {
    "ssl": _ssl,
    "urllib.request": _urllib,
    "urllib3": _urllib3,
    "requests": _requests,
    "httpx": _httpx,
    "httpx2": _httpx2,
    "httpx2 without the environment": lambda url: _httpx2(url, trust_env=False),
    "aiohttp": _aiohttp,
    "truststore": _truststore,
    "pip": _pip,
    "requests without the environment": lambda url: _requests(url, trust_env=False),
    "httpx without the environment": lambda url: _httpx(url, trust_env=False),
    "certifi": _certifi,
    "ExternalClient": _external,
}
PROGRAMS = {
    "curl": lambda url: _run("curl", "-fsS", "-o", os.devnull, url),
    "curl without variables": lambda url: _run(*WITHOUT_VARIABLES, "curl", "-fsS", url),
    "wget": lambda url: _run("wget", "-q", "--tries=1", "-O", os.devnull, url),
    "git": lambda url: _run("git", "ls-remote", url),
    "node": lambda url: _run("node", "-e", NODE, url),
}
GRPC = "grpc"


def installed():
    """The names of those clients that are here."""
    programs = [name for name in PROGRAMS if shutil.which(name.split()[0])]
    return [*PYTHON, GRPC, *programs]


def _reaches(client, url):
    try:
        client(url)
    except AssertionError:
        raise
    except Exception:  # noqa: BLE001 - each library has its own
        return False
    return True


def _grpc(url):
    import grpc

    states = queue.SimpleQueue()
    with grpc.secure_channel(url, grpc.ssl_channel_credentials()) as channel:
        channel.subscribe(states.put, try_to_connect=True)
        while (state := states.get(timeout=TIMEOUT)) is not grpc.ChannelConnectivity.READY:
            if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                raise ssl.SSLError("grpc")


def _look(servers):
    clients = {name: each for name, each in (PYTHON | PROGRAMS).items() if name in installed()}
    questions = [
        (name, server, client, f"https://localhost:{ports[0]}/")
        for name, client in clients.items()
        for server, ports in servers.items()
    ]
    questions += [
        (GRPC, server, _grpc, f"localhost:{ports[1]}") for server, ports in servers.items()
    ]
    with ThreadPoolExecutor(8) as threads:
        answers = threads.map(lambda each: _reaches(*each[2:]), questions)
    found = {name: [] for name in installed()}
    for (name, server, *_), is_reached in zip(questions, answers, strict=True):
        found[name] += [server] if is_reached else []
    return found


def main():
    """Answer until the input ends."""
    for line in sys.stdin:
        sys.stdout.write(json.dumps(_look(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
