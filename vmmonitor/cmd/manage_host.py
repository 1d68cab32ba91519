# SPDX-License-Identifier: Apache-2.0
"""``vmmonitor-manage host ...``: the registered hosts, and the keys of their agents."""

import argparse
import contextlib
import dataclasses
import functools
import json
import os
import secrets
import sys
import tempfile
from collections.abc import Callable, Sequence

from oslo_config import cfg

from vmmonitor.cmd import arguments
from vmmonitor.cmd.offline_db import format_time, open_database
from vmmonitor.db import hosts
from vmmonitor.db.session import Database
from vmmonitor.model.errors import VmmonitorError
from vmmonitor.model.host import RegisteredHost
from vmmonitor.rpc.keys import (
    KEY_BYTES,
    MasterKeys,
    format_key,
    read_keys,
)

HostCommand = Callable[[cfg.ConfigOpts, Database, argparse.Namespace], None]


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``host`` with its subcommands.

    :param subparsers: the subparsers of ``vmmonitor-manage``.
    """
    description = "register hosts, and issue and rotate the keys of their agents"
    group = subparsers.add_parser("host", help=description, description=description)
    verbs = group.add_subparsers(dest="verb", metavar="COMMAND", required=True)
    _add(verbs, "list", "list the registered hosts and their keys", print_hosts).add_argument(
        "--json", action="store_true", help="print a JSON list"
    )
    _add(verbs, "add", "register a host", add_host).add_argument(
        "host",
        metavar="HOST",
        type=arguments.host_name,
        help="name of the host, as in its agent's configuration",
    )
    parser = _add(verbs, "key", "print the key file of a host's agent", issue_key)
    parser.add_argument("host", metavar="HOST", type=arguments.host_name, help="name of the host")
    _add_output(parser)
    parser = _add(
        verbs, "rotate", "add a master key, or print the new key file of one host", rotate
    )
    parser.add_argument(
        "host",
        metavar="HOST",
        nargs="?",
        type=arguments.host_name,
        help="host to issue a new key to (default: add a master key to the file)",
    )
    _add_output(parser)


def print_hosts(conf: cfg.ConfigOpts, database: Database, args: argparse.Namespace) -> None:
    """Print the registered hosts."""
    with database.reader() as tx:
        found = hosts.registered(tx)
    print(json.dumps([_form(each) for each in found], indent=2) if args.json else _table(found))


def add_host(conf: cfg.ConfigOpts, database: Database, args: argparse.Namespace) -> None:
    """Register a host."""
    if database.run(hosts.register, args.host, database.now()):
        print(f"Registered host {args.host}.")
    else:
        print(f"Host {args.host} is already registered.")


def issue_key(conf: cfg.ConfigOpts, database: Database, args: argparse.Namespace) -> None:
    """Print or write the key file of a host, and register the host."""
    keys = MasterKeys(_master_key_file(conf))
    key_id = keys.newest_id
    key = keys.find(args.host, key_id)
    assert key is not None
    database.run(hosts.record_issued_key, args.host, key_id, database.now())
    text = f"# Key of the vmmonitor agent of host {args.host}\n{format_key(key_id, key)}\n"
    if args.output:
        _write_secret(args.output, text)
        print(f"Wrote the key of host {args.host} to {args.output}.")
    else:
        print(text, end="")


def rotate(conf: cfg.ConfigOpts, database: Database, args: argparse.Namespace) -> None:
    """Issue a host a key of the newest master key; without a host, add a master key.

    :raises vmmonitor.model.errors.VmmonitorError: the host has a key of the newest master key.
    """
    if args.host is None:
        _add_master_key(_master_key_file(conf))
        return
    newest = MasterKeys(_master_key_file(conf)).newest_id
    with database.reader() as tx:
        if hosts.issued_key(tx, args.host) == newest:
            raise VmmonitorError(
                f"host {args.host} already has a key of master key {newest}; run 'vmmonitor-manage"
                " host rotate' first, or print the key again with 'vmmonitor-manage host key'"
            )
    issue_key(conf, database, args)


def _add_master_key(path: str) -> None:
    keys = read_keys(path, required=False) if os.path.exists(path) else {}
    key_id = str(1 + max((int(each) for each in keys if each.isdecimal()), default=0))
    lines = [format_key(each, key) for each, key in keys.items()]
    lines.insert(0, format_key(key_id, secrets.token_bytes(KEY_BYTES)))
    _write_secret(path, "\n".join(lines) + "\n")
    print(f"Added master key {key_id} to {path}.")
    print(
        "Copy the file to each host with an engine, and reload the engines (SIGHUP). Afterwards"
        " run 'vmmonitor-manage host rotate HOST' for each host."
    )


def _write_secret(path: str, text: str) -> None:
    """Replace a file that only its owner can read, and keep its owner.

    :raises vmmonitor.model.errors.VmmonitorError: it cannot be written.
    """
    # Relative if the path is: a rename from another mount of the same directory fails.
    folder = os.path.dirname(path) or os.curdir
    try:
        descriptor, name = tempfile.mkstemp(dir=folder)
        temporary = os.path.join(folder, os.path.basename(name))
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
                with contextlib.suppress(FileNotFoundError):
                    previous = os.stat(path)
                    os.fchown(file.fileno(), previous.st_uid, previous.st_gid)
            os.rename(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise VmmonitorError(f"cannot write {path}: {error}") from error


def _master_key_file(conf: cfg.ConfigOpts) -> str:
    path: str = conf.rpc.master_key_file
    if not path:
        raise VmmonitorError("[rpc] master_key_file must be set, on a host with an engine")
    return path


def _form(host: RegisteredHost) -> dict[str, str]:
    return dataclasses.asdict(host) | {"added_at": format_time(host.added_at)}


def _table(found: Sequence[RegisteredHost]) -> str:
    head = ("HOST", "ADDED", "ISSUED KEY", "USED KEY", "AGENT")
    rows = [head] + [
        (
            each.host,
            format_time(each.added_at),
            each.issued_key or "-",
            each.used_key or "-",
            each.agent_state or "-",
        )
        for each in found
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _add(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    description: str,
    command: HostCommand,
) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=description, description=description)
    parser.set_defaults(run=functools.partial(_run, command))
    return parser


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="write a file with mode 0600 (default: print to standard output)",
    )


def _run(command: HostCommand, conf: cfg.ConfigOpts, args: argparse.Namespace) -> int:
    """Run a command with an open database, and print an expected error as one line."""
    try:
        with open_database(conf) as database:
            command(conf, database, args)
    except VmmonitorError as error:
        print(f"vmmonitor-manage: {error}", file=sys.stderr)
        return 1
    return 0
