# SPDX-License-Identifier: Apache-2.0
"""The commands of ``tools/openstack-lab``, once its venv is there."""

import argparse
import json
import os
import sys

from openstack_lab import hosts, lab, life
from openstack_lab.cloud import Cloud, account
from openstack_lab.lab import Lab, LabError
from openstack_lab.units import Units, say

FIRST_PORT = 28700
HOSTS = "node1,node2"


def main() -> int:
    """Run the command, and return the exit code."""
    hosts.quiet()
    # The options of the client are passed on without parsing.
    words = sys.argv[1:2] if sys.argv[1:2] == ["openstack"] else sys.argv[1:]
    args = _parser().parse_args(words)
    try:
        if args.command == "up":
            return _up(args)
        there = lab.load(lab.directory())
        if there is None:
            if args.command == "down":
                say(f"there is no lab in {lab.directory()}")
                return 0
            raise LabError(f"there is no lab in {lab.directory()}: tools/openstack-lab up")
        return args.run(there, args) or 0
    except LabError as error:
        print(f"openstack-lab: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tools/openstack-lab")
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up")
    up.add_argument("--hosts", help=f"names of the hosts, with commas (default: {HOSTS})")
    up.add_argument("--without", default="", help="leave these out, with commas")
    down = commands.add_parser("down")
    down.add_argument("--wipe", action="store_true")
    down.set_defaults(run=lambda there, args: life.down(there, args.wipe))
    status = commands.add_parser("status")
    status.add_argument("--json", action="store_true")
    status.set_defaults(run=_status)
    server = commands.add_parser("server")
    server.add_argument("name")
    server.add_argument("host", nargs="?", default="")
    server.set_defaults(run=_server)
    order = commands.add_parser("order")
    order.add_argument("name")
    order.add_argument("letters")
    order.set_defaults(run=_order)
    for name in ("start", "stop", "kill"):
        one = commands.add_parser(name)
        one.add_argument("units", nargs="+")
        one.set_defaults(run=_change)
    client = commands.add_parser("openstack", add_help=False)
    client.set_defaults(run=_client)
    return parser


def _up(args: argparse.Namespace) -> int:
    there = lab.load(lab.directory())
    port = int(os.environ.get("VMMONITOR_LAB_PORT") or (there.first_port if there else FIRST_PORT))
    names = args.hosts.split(",") if args.hosts else there.hosts if there else HOSTS.split(",")
    wanted = Lab(path=lab.directory(), first_port=port, hosts=tuple(names))
    if there and there.first_port != port:
        raise LabError(f"the lab is on port {there.first_port}; to move it: down --wipe first")
    life.up(wanted, [name for name in args.without.split(",") if name])
    say("the lab is up")
    return _status(wanted, argparse.Namespace(json=False))


def _status(there: Lab, args: argparse.Namespace) -> int:
    told = life.status(there)
    if args.json:
        json.dump(told, sys.stdout, indent=1)
        print()
        return 0
    for name, pid in told["units"].items():
        print(f"{name:28}{f'pid {pid}' if pid else 'down'}")
    for name, url in told["services"].items():
        print(f"{name:28}{url}")
    for name, host in told["hosts"].items():
        print(f"{name:28}{host['libvirt_uri']}")
    return 0


def _server(there: Lab, args: argparse.Namespace) -> None:
    server = Cloud(there).boot(args.name, args.host)
    print(server.id, server.status, server.compute_host)


def _order(there: Lab, args: argparse.Namespace) -> None:
    print(Cloud(there).order(args.name, args.letters), end="")


def _change(there: Lab, args: argparse.Namespace) -> None:
    units = Units(there)
    change = {"start": units.start_again, "stop": units.stop, "kill": units.kill}[args.command]
    for name in args.units:
        if name not in units.names():
            raise LabError(f"the lab has no {name!r}; it has: {', '.join(sorted(units.names()))}")
        say(f"{name}: " + (args.command if change(name) else "nothing to do"))


def _client(there: Lab, args: argparse.Namespace) -> None:
    told = {f"OS_{name.upper()}": value for name, value in account(there).items()}
    program = there.program("openstack")
    # The path of this package is not for other programs.
    ours = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    os.execve(program, [program, *sys.argv[2:]], {**ours, **told})


if __name__ == "__main__":
    sys.exit(main())
