# SPDX-License-Identifier: Apache-2.0
"""Play failures on an engine and print them as an operator would see them."""

import argparse
import contextlib
import datetime
import io
import logging
import os
import pathlib
import re
import shlex
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import fixtures

import vmmonitor
from vmmonitor.api import deploy
from vmmonitor.client import explain, shell
from vmmonitor.cmd import manage_drivers, manage_rules, manage_spool
from vmmonitor.engine.incidents.requests import OperatorRequests
from vmmonitor.model.event import Event
from vmmonitor.model.incident import Verdict, VerdictKind
from vmmonitor.model.instance import Instance
from vmmonitor.model.recovery import Outcome
from vmmonitor.rpc import event_wire
from vmmonitor.rules import defaults, filters, policies
from vmmonitor.tests.fixtures import api
from vmmonitor.tests.functional.engine import base

CHECKOUT = pathlib.Path(vmmonitor.__file__).parents[1]
DOCS = CHECKOUT / "doc" / "source"
SAMPLES = DOCS / "samples"

#: 2026-11-22T20:01:47.378Z, in microseconds.
BEGIN = 1_795_377_707_378_000
MS = 1000
WEB = Instance(
    uuid="44f25197-4278-4b56-bafe-107c128b92e6",
    name="web-1",
    hypervisor_name="instance-0000002a",
    project_id="b7f1c2d3e4a5968778695a4b3c2d1e0f",
    project_name="shop",
    user_id="0a1b2c3d4e5f60718293a4b5c6d7e8f9",
    user_name="ada",
    flavor="m1.small",
)
ACTIVE = "it should run here: active, nothing in progress"
STOPPED = "user ada stopped it"
REBOOTS = Outcome(move="wait", message="nova reboots it")
CREATED = Outcome(move="wait", message="it was created and runs")
CAUSE = Verdict(
    kind=VerdictKind.FAILED,
    reason="lifecycle.stopped/failed: its process was killed or ended by itself",
    asked="libvirt",
    question="whether it failed or was stopped on purpose",
    took=200,
)
REFUSED = Outcome(move="fail", message="[agent] allow_recovery is off on this host", retry=False)
UUID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b")


def nova_answers(verdict: str, reason: str) -> Verdict:
    """Return a verdict that nova gave."""
    question = "whether it should run here"
    return Verdict(
        kind=VerdictKind(verdict), reason=reason, asked="nova", question=question, took=34 * MS
    )


class DocSamplesTest(base.EngineCase):
    """Plays failures on an engine and prints them as an operator would."""

    policy_file = defaults.OPENSTACK_POLICIES

    def setUp(self) -> None:
        super().setUp()
        self.useFixture(fixtures.EnvironmentVariable("COLUMNS", "99"))
        token_file = os.path.join(self.useFixture(fixtures.TempDir()).path, "api.token")
        self.conf.set_override("token_file", token_file, "api")
        self.useFixture(fixtures.EnvironmentVariable(shell.TOKEN_VARIABLE, token_file))
        self.clock = BEGIN
        self.policies = policies.load(defaults.path(self.policy_file))
        self.filters = filters.load(defaults.path(defaults.EVENT_FILTERS))
        self._seen: dict[str, str] = {}
        # The service runs in this process; its log is not output of a command.
        service = logging.getLogger("vmmonitor")
        self.addCleanup(setattr, service, "propagate", service.propagate)
        service.propagate = False

    # -- failures --------------------------------------------------------------------------------
    def occurs(self, cause: str, source: str = "libvirt", **fields: Any) -> None:
        """Store an event of the instance, as its host's agent would decide and send it."""
        kind, _, detail = cause.partition("/")
        known: dict[str, Any] = {
            "event_id": base.samples.new_id(),
            "host": "compute1",
            "instance": WEB,
            "source": source,
            "type": kind,
            "detail": detail,
            "occurred_at": self.clock,
        }
        event = Event(**{**known, **fields})
        self.later(0.008)
        delivery = event_wire.Delivery(
            event=event, decision=self.filters.decide(event), spooled_at=self.clock - 6 * MS
        )
        batch = event_wire.Batch(
            host=event.host, sent_at=self.clock - 5 * MS, deliveries=(delivery,)
        )
        self.ingest().store(batch, 10)

    def crashes(self) -> None:
        """Let the QEMU process end, and libvirt report why."""
        self.occurs("process.exited", "process")
        self.later(0.19)
        self.occurs("lifecycle.stopped/failed")
        self.later(0.04)

    def is_recovered(self) -> None:
        """Let the engine recover the instance through its driver."""
        claim = self.decide(nova_answers("failed", ACTIVE))
        self.later(0.31)
        self.finish(claim, REBOOTS)
        self.later(1.4)
        self.occurs("lifecycle.started/booted")
        self.later(0.2)
        self.occurs("lifecycle.resumed/unpaused")

    # -- output ----------------------------------------------------------------------------------
    def tame(self, text: str) -> str:
        """Replace ids that differ at each run by ids that do not."""

        def stable(found: re.Match[str]) -> str:
            if found[0] == WEB.uuid:
                return found[0]
            number = len(self._seen) + 1
            return self._seen.setdefault(found[0], f"dfbd1913-53b0-4b50-b856-80fe475b{number:04x}")

        lines = UUID.sub(stable, text).splitlines()
        return "\n".join(line.rstrip() for line in lines) + "\n"

    def client(self, *words: str, code: int = 0, hidden: int = 0) -> str:
        """Return what a command of ``vmmonitor`` prints, with the command itself.

        :param code: the exit code that it must have.
        :param hidden: how many of the last words the documentation does not show.
        """
        out, err = io.StringIO(), io.StringIO()
        with contextlib.ExitStack() as stack:
            application = deploy.build(self.conf, self.database)
            served = stack.enter_context(api.Served(application))
            command = shell.Shell(
                description=None,
                version=None,
                command_manager=shell.PluginCommands(shell.PluginCommands.NAMESPACE),
                stdout=out,
                stderr=err,
            )
            self.assertEqual(code, command.run(["--endpoint", served.url, *words]), err.getvalue())
        shown = shlex.join(words[: len(words) - hidden]).replace("'", '"')
        return f"$ vmmonitor {shown}\n{out.getvalue()}{err.getvalue()}"

    @contextlib.contextmanager
    def requests_executed(self) -> Iterator[None]:
        """Execute operator requests during the block, as an engine does."""
        over = threading.Event()
        executor = OperatorRequests(self.database, self.attempts())

        def execute() -> None:
            while not over.wait(0.05):
                executor.carry_out_due()

        thread = threading.Thread(target=execute, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(10)

    def explained(self) -> str:
        """Return the explanation of the newest incident, as of the engine's time."""
        incident = self.incident()
        command = f"$ vmmonitor incident explain {incident.incident_id}"
        with api.Served(deploy.build(self.conf, self.database)) as served:
            answer = shell.Clients(served.url).vmmonitor.show("incidents", incident.incident_id)
        now = datetime.datetime.fromtimestamp(self.clock / 1_000_000, datetime.UTC)
        return "\n".join([command, *explain.explain(answer, 99, now)])

    def manage(self, *words: str, files: Mapping[str, str] | None = None, code: int = 0) -> str:
        """Return what a command of ``vmmonitor-manage`` prints, with the command itself.

        :param files: name -> content of the files that the command reads.
        :param code: the exit code that it must have.
        """
        parser = argparse.ArgumentParser()
        nouns = parser.add_subparsers(required=True)
        for module in (manage_rules, manage_drivers, manage_spool):
            module.register(nouns)
        out = io.StringIO()
        with self.in_directory(files or {}), contextlib.redirect_stdout(out):
            args = parser.parse_args(words)
            self.assertEqual(code, args.run(self.conf, args))
        return f"$ vmmonitor-manage {' '.join(words)}\n{out.getvalue()}"

    @contextlib.contextmanager
    def in_directory(self, files: Mapping[str, str]) -> Iterator[None]:
        """Change to a directory with these files."""
        directory = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        for name, text in files.items():
            (directory / name).write_text(text)
        with contextlib.chdir(directory):
            yield

    def check(self, name: str, *texts: str) -> None:
        """Compare output with a recorded sample, or record it.

        :param name: of the file in ``doc/source/samples``, without ``.txt``.
        """
        text = "\n".join(self.tame(each) for each in texts)
        path = SAMPLES / f"{name}.txt"
        if os.environ.get("VMMONITOR_WRITE_SAMPLES"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        self.assertEqual(path.read_text(), text, f"{name}: record the samples again")
