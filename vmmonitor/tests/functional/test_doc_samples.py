# SPDX-License-Identifier: Apache-2.0
"""The command output in the documentation is what the commands print.

Record it again after a change of the output:

    VMMONITOR_WRITE_SAMPLES=1 .venv/bin/stestr run --test-path ./vmmonitor/tests/functional \
        test_doc_samples
"""

import argparse
import contextlib
import datetime
import io
import json
import logging
import os
import pathlib
import re
import shlex
import threading
from collections.abc import Iterator, Mapping
from typing import Any
from unittest import mock

import fixtures
import testtools

import vmmonitor
from vmmonitor import plugins
from vmmonitor.agent.spool import Spool
from vmmonitor.api import deploy
from vmmonitor.client import agent as client_agent
from vmmonitor.client import explain, shell
from vmmonitor.cmd import manage_drivers, manage_rules, manage_spool
from vmmonitor.db import agents
from vmmonitor.drivers.log import LogDriver
from vmmonitor.engine.incidents.requests import OperatorRequests
from vmmonitor.model.agent import AgentReport
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
                executor.round()

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
        return "\n".join([command, *explain.explained(answer, 99, now)])

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


class TestPages(testtools.TestCase):
    def test_each_sample_is_shown_on_a_page(self):
        text = "".join(path.read_text() for path in DOCS.rglob("*.rst"))
        shown = set(re.findall(r"literalinclude:: /samples/([\w-]+)\.txt", text))
        self.assertEqual(sorted(shown), sorted(path.stem for path in SAMPLES.glob("*.txt")))


class TestRecovered(DocSamplesTest):
    def test_incident_of_recovered_crash_is_as_documented(self):
        self.crashes()
        self.is_recovered()
        incident = self.incident()
        self.assertEqual("resolved", incident.state)
        ident = incident.incident_id
        self.check("incident-explain", self.explained())
        self.check("incident-show", self.client("incident", "show", ident))
        self.check("incident-list", self.client("incident", "list"))
        self.check("event-list", self.client("event", "list"))
        self.check("recovery-list", self.client("recovery", "list"))


class TestRecoveredWithoutNova(DocSamplesTest):
    policy_file = defaults.RECOVERY_POLICIES

    def test_incident_without_permission_to_recover_is_as_documented(self):
        self.crashes()
        self.finish(self.decide(nova_answers("failed", ACTIVE)), REFUSED)
        self.assertIn(self.incident().state, ("failed", "unrecovered"))
        self.check("incident-explain-unrecovered", self.explained())

    def test_incident_of_quickstart_is_as_documented(self):
        self.crashes()
        claim = self.decide(CAUSE)
        self.later(0.35)
        self.occurs("lifecycle.resumed/unpaused")
        self.finish(claim, CREATED)
        self.later(0.02)
        ident = self.incident().incident_id
        self.check("quickstart-incident-show", self.client("incident", "show", ident))


class TestHeld(DocSamplesTest):
    def test_incident_with_unknown_verdict_is_as_documented(self):
        self.crashes()
        unknown = nova_answers("unknown", "nova cannot be queried: ConnectFailure")
        self.decide(unknown)
        self.later(61)
        self.decide(unknown)
        self.assertEqual("held", self.incident().state)
        self.later(2)
        self.check("incident-explain-held", self.explained())


class TestPlanned(DocSamplesTest):
    def test_incident_of_planned_stop_is_as_documented(self):
        self.crashes()
        self.decide(nova_answers("planned", STOPPED))
        self.assertEqual("ignored", self.incident().state)
        self.check("incident-explain-ignored", self.explained())


class TestRequests(DocSamplesTest):
    def test_requests_are_as_documented(self):
        self.crashes()
        ident = self.incident().incident_id
        author = ("--author", "ada")
        with self.requests_executed():
            held = self.client(
                *("incident", "hold", ident, "--for", "2h", "--comment", "asking the owner"),
                *author,
                hidden=2,
            )
            resolved = self.client(
                *("incident", "resolve", ident, "--comment", "rebuilt by the owner"),
                *author,
                hidden=2,
            )
            refused = self.client("incident", "hold", ident, *author, code=1, hidden=2)
        self.check("incident-hold", held)
        self.check("incident-resolve", resolved)
        self.check("incident-hold-refused", refused)
        self.check("request-list", self.client("request", "list"))


class TestSilences(DocSamplesTest):
    def test_silence_is_as_documented(self):
        self.crashes()
        words = ("silence", "create", "--host", "compute1", "--for", "4h")
        more = ("--comment", "kernel update", "--author", "ada")
        self.check("silence-create", self.client(*words, *more, hidden=2))
        self.check("silence-list", self.client("silence", "list"))


class TestReplay(DocSamplesTest):
    def test_replay_and_policy_of_incident_are_as_documented(self):
        self.crashes()
        self.is_recovered()
        rules = pathlib.Path(defaults.path(defaults.OPENSTACK_POLICIES)).read_text()
        leave = 'policies:\n- name: leave-web-alone\n  match: {instance.name: {"=~": "web-.*"}}\n'
        files = {
            "recovery_policies.yaml": rules,
            "new.yaml": rules.replace("policies:\n", f"{leave}  steps: []\n", 1),
        }
        words = ("policy", "explain", self.incident().incident_id)
        words += ("--file", "recovery_policies.yaml")
        self.check("policy-explain-incident", self.manage(*words, files=files))
        words = ("policy", "replay", "--since", "2026-11-22T00:00Z", "new.yaml")
        self.check("policy-replay", self.manage(*words, files=files))


class TestDriverCheck(DocSamplesTest):
    def test_check_of_drivers_is_as_documented(self):
        def found(_namespace: str, name: str) -> type[LogDriver]:
            problem = "it cannot be asked: ConnectFailure" if name == "masakari" else ""
            return type("Checked", (LogDriver,), {"check": lambda self: problem})

        with mock.patch.object(plugins, "load", found):
            output = self.manage("driver", "check", "nova", "masakari", code=1)
        self.check("driver-check", output)


class TestSpool(DocSamplesTest):
    def test_contents_of_spool_are_as_documented(self):
        directory = self.useFixture(fixtures.TempDir()).path
        self.conf.set_override("path", f"{directory}/spool.db", "spool")
        spool = Spool(f"{directory}/spool.db", 1000, 1_000_000)
        self.addCleanup(spool.close)
        form = {
            "event_id": "85aa758c-c0cf-48ff-9579-9a4e391cee35",
            "type": "lifecycle.stopped",
            "decision": {"action": "incident"},
        }
        forms = [{**form, "occurred_at": BEGIN + number} for number in range(3)]
        spool.append(forms, {WEB.uuid: {"name": WEB.name}})
        spool.settle(spool.read(1), {1: "event.detail: longer than 255 characters"}, BEGIN)
        output = self.manage("spool", "show").replace(directory, "/var/lib/vmmonitor")
        self.check("spool-show", output)


class TestAgents(DocSamplesTest):
    def test_list_of_agents_is_as_documented(self):
        def reported(host: str, state: str, reason: str, ago: float, offset: float) -> None:
            at = self.clock - round(ago * 1_000_000)
            sent = at - round(offset * 1_000_000)
            report = AgentReport(
                host=host,
                state=state,
                reason=reason,
                version="1.0.0",
                started_at=at - 86_400_000_000,
                sent_at=sent,
                interval=10.0,
                spool_depth=0,
                spool_refused=0,
                filter_checksum="",
                inventory_digest="",
                instances=42,
                last_event_at=at - 90_000_000,
            )
            with self.database.writer() as tx:
                agents.report(tx, report, at)

        reported("compute1", "up", "", 3, 0.001)
        reported("compute2", "late", "no report for 30 s", 383, 0.002)
        reported("compute3", "blind", "source libvirt: Connection refused", 4, -3600)
        now = datetime.datetime.fromtimestamp(self.clock / 1_000_000, datetime.UTC)
        clock = mock.patch.object(client_agent, "datetime", wraps=datetime)
        with clock as patched:
            patched.datetime.now.return_value = now
            self.check("agent-list", self.client("agent", "list"))


class TestRules(DocSamplesTest):
    def test_rule_commands_print_as_documented(self):
        event = json.dumps({"type": "lifecycle.stopped", "detail": "failed", "host": "compute1"})
        own = (
            "version: 1\n"
            "policies:\n"
            "- name: leave-the-lab-alone\n"
            '  match: {host: {"=~": "lab-.*"}}\n'
            "  steps: []\n"
            "- name: crashed\n"
            "  match: {type: lifecycle.stopped, detail: {in: [failed, crashed]}}\n"
            "  steps:\n"
            "  - driver: nova\n"
            "    wait_for: active\n"
        )
        files = {"event.json": event, "policies.yaml": own}
        shown = f"$ cat event.json\n{event}\n"
        self.check("policy-check", self.manage("policy", "check", "policies.yaml", files=files))
        words = ("policy", "explain", "event.json", "--file", "policies.yaml")
        self.check("policy-explain-event", shown + self.manage(*words, files=files))
        filter_file = (DOCS / "samples" / "filters.yaml").read_text()
        files = {"event.json": event, "filters.yaml": filter_file}
        words = ("filter", "explain", "event.json", "--file", "filters.yaml")
        self.check("filter-explain", shown + self.manage(*words, files=files))
