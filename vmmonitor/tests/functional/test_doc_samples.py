# SPDX-License-Identifier: Apache-2.0
"""The command output in the documentation is what the commands print.

Record it again after a change of the output:

    VMMONITOR_WRITE_SAMPLES=1 .venv/bin/stestr run --test-path ./vmmonitor/tests/functional \
        test_doc_samples
"""

import datetime
import json
import pathlib
import re
from unittest import mock

import fixtures
import testtools

from vmmonitor import plugins
from vmmonitor.agent.spool import Spool
from vmmonitor.client import agent as client_agent
from vmmonitor.db import agents
from vmmonitor.drivers.log import LogDriver
from vmmonitor.model.agent import AgentReport
from vmmonitor.rules import defaults
from vmmonitor.tests.functional.doc_samples import (
    ACTIVE,
    BEGIN,
    CAUSE,
    CREATED,
    DOCS,
    REFUSED,
    SAMPLES,
    STOPPED,
    WEB,
    DocSamplesTest,
    nova_answers,
)


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
        self.assertIn(self.incident().state, ("unrecovered",))
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
            problem = (
                "the request to masakari failed: ConnectFailure" if name == "masakari" else ""
            )
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
                agents.store_report(tx, report, at)

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
