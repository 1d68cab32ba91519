# SPDX-License-Identifier: Apache-2.0
"""Shared parts of the tests of rules."""

import os
import tempfile
from typing import Any

import testtools

from vmmonitor.model import errors
from vmmonitor.model.event import Event
from vmmonitor.model.instance import Instance


def event(type: str = "lifecycle.stopped", detail: str = "failed", **facts: Any) -> Event:
    """Return an event; facts that are not fields of an event become its attributes."""
    instance = Instance(uuid="b9a3ce6a-6f2b-4f0c-9d6e-3b8a1e0f5c11", **facts.pop("instance", {}))
    return Event(
        event_id="e1",
        host=facts.pop("host", "compute-1"),
        instance=instance,
        source=facts.pop("source", "libvirt"),
        type=type,
        detail=detail,
        occurred_at=1_700_000_000_000_000,
        attributes=facts,
    )


def write(content: str | bytes) -> str:
    """Return the path of a new file; the caller removes it."""
    data = content.encode() if isinstance(content, str) else content
    descriptor, path = tempfile.mkstemp(suffix=".yaml")
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    return path


class RulesTest(testtools.TestCase):
    def file(self, content: str | bytes) -> str:
        path = write(content)
        self.addCleanup(os.remove, path)
        return path

    def refusal(self, load: Any, content: str | bytes) -> list[str]:
        """Return the error lines of ``load`` for an invalid file, without the path."""
        path = self.file(content)
        error = self.assertRaises(errors.InvalidRules, load, path)
        lines = str(error).splitlines()
        for line in lines:
            self.assertTrue(line.startswith(path + ":"), line)
        return [line.removeprefix(path + ":").strip() for line in lines]
