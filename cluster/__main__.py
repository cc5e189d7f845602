# SPDX-License-Identifier: Apache-2.0
"""Commands for the development cluster: `python -m cluster --help`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from cluster.binaries import CHART, CONTROL_PLANE, CSI, NODE
from cluster.build import build
from cluster.development import DevelopmentCluster
from cluster.exceptions import ClusterError
from cluster.node.tools import find_tools


def main() -> int:
    """Run one command; an expected failure is one message and status 1."""
    arguments = _parser().parse_args()
    try:
        arguments.run(arguments)
    except ClusterError as error:
        _tell(str(error))
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m cluster", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    building = commands.add_parser("build", help="build the programs that are not up to date")
    building.add_argument("--node", action="store_true", help="also those of the real node")
    building.add_argument("--csi", action="store_true", help="also the tests for CSI drivers")
    building.set_defaults(run=_build)
    up = commands.add_parser("up", help="start the development cluster")
    up.add_argument("--nodes", type=int, default=2, help="how many hollow nodes (2)")
    up.set_defaults(run=_up)
    node_up = commands.add_parser("node-up", help="start it with a real node (Linux, root)")
    node_up.set_defaults(run=_node_up)
    commands.add_parser("down", help="end it").set_defaults(run=_down)
    keep = commands.add_parser("keep", help="run one in this process (used by `up`)")
    keep.add_argument("folder", type=Path)
    keep.add_argument("nodes", type=int)
    keep.add_argument("--real", action="store_true")
    keep.set_defaults(run=_keep)
    return parser


def _build(arguments: argparse.Namespace) -> None:
    if arguments.node:
        find_tools()  # Before minutes are spent on building.
    more = [*(NODE if arguments.node else ()), *(CSI if arguments.csi else ())]
    build([*CONTROL_PLANE, *CHART, *more])


def _up(arguments: argparse.Namespace) -> None:
    build(CONTROL_PLANE)
    development = DevelopmentCluster()
    _tell_started(development, is_new=development.start(arguments.nodes))


def _node_up(_arguments: argparse.Namespace) -> None:
    find_tools()  # Before minutes are spent on building.
    build([*CONTROL_PLANE, *NODE])
    development = DevelopmentCluster()
    _tell_started(development, is_new=development.start(0, is_real=True))


def _tell_started(development: DevelopmentCluster, *, is_new: bool) -> None:
    _tell("The cluster is ready." if is_new else "The cluster runs already, as it was started.")
    _tell("Use it in this shell with the next line; end it with `make cluster-down`.")
    sys.stdout.write(f"export KUBECONFIG={development.kubeconfig}\n")


def _down(_arguments: argparse.Namespace) -> None:
    was_running = DevelopmentCluster().end()
    _tell("The cluster has ended." if was_running else "There was no cluster.")


def _keep(arguments: argparse.Namespace) -> None:
    DevelopmentCluster(arguments.folder).keep(arguments.nodes, is_real=arguments.real)


def _tell(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
