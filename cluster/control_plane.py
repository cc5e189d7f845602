# SPDX-License-Identifier: Apache-2.0
"""A private Kubernetes control plane: etcd, API server, controller manager, scheduler.

Rules:
1. All it writes is in one folder that only its owner may enter; it listens on loopback only.
2. It is ready when the API server says so and the controller manager has done its first work.
3. Its programs end with it, and with this process, however that ends (`lifetime`, `process`).
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from cluster import binaries, flags, kubeconfig, lifetime
from cluster.api import Api
from cluster.authority import Authority, Files, file_name, write_signing_key
from cluster.exceptions import PortTakenError
from cluster.flags import API_SERVER, CONTROLLER_MANAGER, ETCD, SCHEDULER, Options, Ports
from cluster.ports import free_ports
from cluster.process import Process
from cluster.readiness import wait_ready

if TYPE_CHECKING:
    from collections.abc import Iterable

_START_SECONDS = 45.0
_ATTEMPTS = 3
_FIRST_WORK = "/api/v1/namespaces/default/serviceaccounts/default"
_COMPONENTS = (CONTROLLER_MANAGER, SCHEDULER)


class ControlPlane(lifetime.Owned):
    """A running control plane, as a context manager.

    Args:
        folder: Where certificates, kubeconfigs, data and logs go; it must be new or empty and is
            kept. Without it a temporary folder is used, and removed at the end.
        options: Feature gates, APIs and further flags.

    Attributes:
        folder: The folder in use.
        options: The options in use.
        api: The API server as its administrator sees it, while it runs.
    """

    api: Api

    def __init__(self, folder: Path | None = None, *, options: Options | None = None) -> None:
        self._is_kept = folder is not None
        self.folder = folder or Path(tempfile.gettempdir())
        self.options = options or Options()
        self._processes: dict[str, Process] = {}

    def close(self) -> None:
        """End all programs; remove the folder when it is a temporary one."""
        self._end_programs()
        if not self._is_kept and self.folder != Path(tempfile.gettempdir()):
            shutil.rmtree(self.folder, ignore_errors=True)
        super().close()

    @property
    def server(self) -> str:
        """The URL of the API server."""
        return f"https://127.0.0.1:{self._ports.api}"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.folder / "admin.kubeconfig"

    @property
    def authority_pem(self) -> bytes:
        """The authority of the API server, PEM."""
        return self._authority.certificate_pem

    @property
    def authority_file(self) -> Path:
        """The file of that authority."""
        return self._authority.files.certificate

    @property
    def port(self) -> int:
        """The API server's port on the loopback address."""
        return self._ports.api

    @property
    def processes(self) -> tuple[Process, ...]:
        """The programs that were started, in the order of their start."""
        return tuple(self._processes.values())

    def process(self, program: str) -> Process:
        """One program by its name, for example `kube-apiserver`."""
        return self._processes[program]

    def kubeconfig_for(
        self, user: str, groups: Iterable[str] = (), *, server: str | None = None
    ) -> Path:
        """Write a kubeconfig with a client certificate for any user and groups.

        Args:
            user: The user's name.
            groups: The user's groups.
            server: The API server's URL for this user, where it is another.
        """
        files = self._authority.issue_client(user, groups)
        return self._kubeconfig(f"{file_name(user)}.kubeconfig", files, server)

    def kubeconfig_of_service_account(
        self, namespace: str, name: str, *, seconds: int = 3600
    ) -> Path:
        """Write a kubeconfig with a token that the API server made for a service account.

        Args:
            namespace: The account's namespace.
            name: The account's name; it must exist.
            seconds: The token's lifetime, at least 600.
        """
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        answer = self.api.post(path, {"spec": {"expirationSeconds": seconds}})
        return kubeconfig.with_token(
            self.folder / f"{file_name(f'{namespace}:{name}')}.kubeconfig",
            server=self.server,
            authority_pem=self.authority_pem,
            token=answer["status"]["token"],
        )

    def is_node_ready(self, name: str) -> bool:
        """Whether a node has joined and says that it is ready."""
        path = f"/api/v1/nodes/{name}"
        if not self.api.exists(path):
            return False
        conditions = self.api.get(path)["status"].get("conditions", [])
        return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)

    def restart(self, program: str, *, seconds: float = _START_SECONDS) -> None:
        """Kill a program, start it again and wait until the API server is ready."""
        self._processes[program].end()
        self._processes[program].start()
        self._wait_ready(seconds)

    def _start(self) -> None:
        if not self._is_kept:
            self.folder = Path(tempfile.mkdtemp(prefix="kubetls-cluster-"))
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        self._make_credentials()
        for attempt in range(_ATTEMPTS):
            try:
                return self._start_programs()
            except PortTakenError:
                self._end_programs()
                if attempt == _ATTEMPTS - 1:
                    raise
        return None

    def _make_credentials(self) -> None:
        self._authority = Authority("kubernetes-authority", self.folder)
        etcd_authority = Authority("etcd-authority", self.folder)
        self._credentials = flags.Credentials(
            authority=self._authority.files,
            etcd_authority=etcd_authority.files.certificate,
            etcd=etcd_authority.issue_server("etcd"),
            api=self._authority.issue_server(API_SERVER, ["127.0.0.1", flags.SERVICE_ADDRESS]),
            kubelet_client=self._authority.issue_client(API_SERVER, ["system:masters"]),
            service_account=write_signing_key(self.folder),
        )
        self._admin = self._authority.issue_client("admin", ["system:masters"])

    def _start_programs(self) -> None:
        shutil.rmtree(self.folder / "etcd", ignore_errors=True)
        self._ports = Ports(*free_ports(3))
        self.api = Api(self._ports.api, authority_pem=self.authority_pem, files=self._admin)
        self._kubeconfig(self.kubeconfig.name, self._admin)
        self._run(ETCD, flags.etcd(self.folder, self._ports, self._credentials))
        self._run(API_SERVER, flags.api_server(self.folder, self._ports, self._credentials))
        self._wait_ready(_START_SECONDS)
        users = {each: self.kubeconfig_for(f"system:{each}") for each in _COMPONENTS}
        manager = flags.controller_manager(users[CONTROLLER_MANAGER], self._credentials)
        self._run(CONTROLLER_MANAGER, manager)
        self._run(SCHEDULER, flags.scheduler(users[SCHEDULER]))
        wait_ready(
            CONTROLLER_MANAGER,
            lambda: self.api.exists(_FIRST_WORK),
            self.processes,
            _START_SECONDS,
        )

    def _wait_ready(self, seconds: float) -> None:
        wait_ready(API_SERVER, self.api.is_ready, self.processes, seconds)

    def _run(self, program: str, arguments: list[str]) -> None:
        command = [str(binaries.find(program)), *arguments, *self.options.flags(program)]
        process = Process(program, command, log=self.folder / f"{program}.log")
        self._processes[program] = process
        process.start()

    def _end_programs(self) -> None:
        while self._processes:
            _, process = self._processes.popitem()
            process.end()

    def _kubeconfig(self, name: str, files: Files, server: str | None = None) -> Path:
        return kubeconfig.with_certificate(
            self.folder / name,
            server=server or self.server,
            authority_pem=self.authority_pem,
            files=files,
        )
