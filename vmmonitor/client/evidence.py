# SPDX-License-Identifier: Apache-2.0
"""``event evidence``: list and save the evidence of an event."""

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from osc_lib import exceptions
from osc_lib.command import command

from vmmonitor.client import base

_COLUMNS = ("kind", "size", "kept", "host", "captured_at", "message")
LONG = ("content_type", "sha256", "path")
#: Content type -> file name extension.
ENDINGS = {"image/png": "png", "application/json": "json", "text/plain": "txt"}


class ListEvidence(command.Lister):
    """List the evidence of an event, and optionally save it as files."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser of the command line."""
        parser = super().get_parser(prog_name)
        parser.add_argument("ident", metavar="<event-id>")
        parser.add_argument(
            "--save",
            metavar="<directory>",
            help="save the evidence that the engine stores as files in this directory, which is "
            "created if needed; the files may contain private data of the guest",
        )
        base.add_long(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Iterator]:
        """Return the columns and the rows."""
        api = base.api(self)
        found = api.evidence(parsed_args.ident)
        if parsed_args.save:
            for item in found:
                if item["size"]:
                    content = api.evidence_content(parsed_args.ident, item["kind"])
                    self._save(parsed_args.save, item, content)
        return base.select_columns(parsed_args, found, _COLUMNS, LONG)

    def _save(self, directory: str, item: Mapping[str, Any], content: bytes) -> None:
        """Write a file that is readable only by its owner.

        :raises osc_lib.exceptions.CommandError: the file cannot be written.
        """
        # The response must not choose a path on this machine.
        kind = "".join(c for c in str(item["kind"]) if c.isalnum() or c == "_")
        name = f"{kind}.{ENDINGS.get(item['content_type'], 'bin')}"
        path = os.path.join(directory, name)
        try:
            os.makedirs(directory, mode=0o700, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
            with open(os.open(path, flags, 0o600), "wb") as file:
                file.write(content)
        except OSError as error:
            raise exceptions.CommandError(f"cannot write {path}: {error}") from error
        self.app.stderr.write(f"{path}: {len(content)} bytes\n")
