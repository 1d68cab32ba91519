# SPDX-License-Identifier: Apache-2.0
"""Evidence of real faults of real guests, from the host to the API."""

import base64
import json
import os
import signal
import stat

import libvirt

from vmmonitor.db import evidence
from vmmonitor.model.evidence import KINDS
from vmmonitor.sources.libvirt.screenshot import PNG_SIGNATURE
from vmmonitor.tests.fixtures.faulty_disk import FullDisk
from vmmonitor.tests.fixtures.services import MariaDB, PostgreSQL
from vmmonitor.tests.fixtures.shared import shared
from vmmonitor.tests.fixtures.small_disk import SmallDisk
from vmmonitor.tests.live.base import LOG_ONLY, WholeTest

RULES = """
version: 1
rules:
- name: everything
  match:
  - {type: metadata_change}
  - {type: lifecycle.crashed}
  - {type: lifecycle.suspended, detail: ioerror}
  - {type: lifecycle.stopped, detail: {in: [failed, crashed]}}
  action: incident
  evidence: [screenshot, console, qemu_log, panic, disk_errors, stats]
"""
#: Where QEMU's log of a session is, below the hypervisor's directory.
LOOKED = "Read statistics of [1-9]"
LOGS = "cache/libvirt/qemu/log"


class EvidenceTest(WholeTest):
    """Real guests, RabbitMQ and a real database."""

    server = MariaDB

    def setUp(self):
        super().setUp()
        self.deploy(connection=shared(self.server).create())

    def options(self, **more):
        logs = os.path.join(self.hypervisor().path, LOGS)
        wanted = {"qemu_log_directory": logs, "stats_interval": 0.5, "timeout": 20} | more
        return {
            "agent": {"filter_file": self.deployment.file("filters.yaml", RULES)},
            "evidence": wanted,
        }

    def run_all(self, **more):
        """Start an engine that recovers nothing, and an agent that captures evidence."""
        self.start(self.deployment.engine(options=self.policies(LOG_ONLY)))
        return self.agent(**more)

    def agent(self, **more):
        return self.watched(self.deployment.agent(self.hypervisor(), options=self.options(**more)))

    def event(self, guest, cause):
        """Wait for an event of a guest."""

        def found():
            return [
                stored.event
                for stored in self.deployment.events(guest.uuid)
                if stored.event.cause == cause
            ]

        self.wait(found, cause)
        return found()[0]

    def stored(self, event):
        """Wait for an item of each kind of an event's evidence; return the items."""

        def found():
            with self.deployment.database.reader() as tx:
                return evidence.of_event(tx, event.event_id)

        self.wait(lambda: len(found()) == len(KINDS), "not all evidence")
        return {item.kind: item for item in found()}

    def content(self, event, kind):
        with self.deployment.database.reader() as tx:
            return evidence.content(tx, event.event_id, kind).content

    def panicked(self, **kwargs):
        """Return a guest that has panicked, and its event."""
        console = os.path.join(self.hypervisor().path, "console.log")
        guest = self.guest(on_crash="preserve", video=True, console_log=console, **kwargs)
        guest.order("P")
        return guest, self.event(guest, "lifecycle.crashed/panicked")


class PanicContract:
    def test_panic_captures_requested_evidence(self):
        self.run_all(store="engine")
        guest, event = self.panicked()
        self.assertEqual(
            {"kinds": list(KINDS), "kept": "engine"}, dict(event.attributes["evidence"])
        )
        there = self.stored(event)
        self.assertEqual({kind: "" for kind in KINDS}, {k: i.message for k, i in there.items()})
        self.assertTrue(self.content(event, "screenshot").startswith(PNG_SIGNATURE))
        self.assertIn(b"kP", self.content(event, "console"))
        log = self.content(event, "qemu_log").decode()
        self.assertIn(f"guest={guest.name}", log)
        self.assertIn("pvpanic", log)
        panic = json.loads(self.content(event, "panic"))
        self.assertEqual(("crashed", "panicked"), (panic["state"], panic["reason"]))
        self.assertEqual({}, json.loads(self.content(event, "disk_errors")))
        stats = json.loads(self.content(event, "stats"))
        self.assertIn("vcpu.0.time", stats["samples"][-1])
        for kind in KINDS:
            self.assert_not_logged(self.content(event, kind))

    def assert_not_logged(self, content):
        """Check that no program logged captured contents, even at debug level."""
        sent = base64.b64encode(content).decode()[:40]
        lines = [line for line in content.decode(errors="replace").splitlines() if len(line) > 30]
        for program in self.deployment.programs:
            for text in (sent, *lines):
                self.assertNotIn(text, program.log() + program.output())


class TestOnMariaDB(PanicContract, EvidenceTest):
    def test_dead_guest_keeps_logs_and_last_statistics(self):
        agent = self.run_all(store="engine")
        guest = self.guest(video=True)
        for _ in range(2):
            agent.wait_for(LOOKED, len(agent.log()))
        guest.kill(signal.SIGKILL)
        self.wait(lambda: self.stops(guest), "no stop")
        event = self.event(guest, self.stops(guest)[0])
        there = self.stored(event)
        self.assertEqual(0, there["screenshot"].size)
        self.assertIn("libvirt: ", there["screenshot"].message)
        self.assertIn(b"-name guest=", self.content(event, "qemu_log"))
        stats = json.loads(self.content(event, "stats"))
        self.assertGreaterEqual(stats["before"], 1)
        self.assertEqual(1, stats["samples"][stats["before"] - 1]["state.state"])

    def test_full_disk_is_named_in_evidence(self):
        self.run_all(store="engine")
        disk = self.useFixture(FullDisk(self.hypervisor()))
        guest = self.guest(disks=[disk.disk()])
        while guest.order("D", timeout=1) == "o":
            pass
        event = self.event(guest, "lifecycle.suspended/ioerror")
        self.stored(event)
        self.assertEqual({"vdb": "no_space"}, json.loads(self.content(event, "disk_errors")))

    def test_hung_qemu_loses_only_its_own_evidence(self):
        agent = self.run_all(store="engine", timeout=5)
        hung = self.guest(video=True, defined=True)
        hung.kill(signal.SIGSTOP)
        self.addCleanup(hung.kill, signal.SIGCONT)
        event = self.described(hung)
        there = self.stored(event)
        for kind in ("screenshot", "disk_errors"):
            self.assertIn("no answer within 5 s", there[kind].message)
        self.assertEqual("", there["qemu_log"].message)
        _, event = self.panicked()
        self.assertEqual("", self.stored(event)["screenshot"].message)
        self.assertEqual(0, agent.stop())

    def described(self, guest):
        """Change a guest's description, which needs no response of QEMU; return the event."""
        with self.hypervisor().connection() as connection:
            connection.lookupByUUIDString(guest.uuid).setMetadata(
                libvirt.VIR_DOMAIN_METADATA_DESCRIPTION,
                *("hung", None, None, libvirt.VIR_DOMAIN_AFFECT_CONFIG),
            )
        self.wait(lambda: self.deployment.events(guest.uuid, "metadata_change"), "no event")
        return self.deployment.events(guest.uuid, "metadata_change")[0].event

    def test_full_disk_of_agent_loses_evidence_and_no_event(self):
        place = os.path.join(self.deployment.path, "full")
        self.useFixture(SmallDisk(place, 4096))
        agent = self.run_all(directory=place)
        self.panicked()
        agent.wait_for("Could not write evidence of event .*No space left")
        self.assertEqual([], os.listdir(os.path.join(place, "kept")))
        lost = {"not-written": 1}
        self.wait(
            lambda: self.deployment.agent_figures()["evidence_lost"] == lost, "it is not counted"
        )

    def test_unsent_evidence_is_sent_after_restart(self):
        agent = self.agent(store="engine")
        guest = self.guest(on_crash="preserve", video=True)
        guest.order("P")
        agent.wait_for("Captured evidence of event")
        agent.kill()
        self.start(self.deployment.engine(options=self.policies(LOG_ONLY)))
        self.watched(agent)
        event = self.event(guest, "lifecycle.crashed/panicked")
        self.stored(event)
        outgoing = os.path.join(self.deployment.path, "node-1", "evidence", "outgoing")
        self.wait(lambda: os.listdir(outgoing) == [], "it is not removed")

    def test_evidence_on_host_is_listed_by_client(self):
        agent = self.run_all()
        guest, event = self.panicked()
        place = event.attributes["evidence"]["path"]
        self.wait(lambda: os.path.exists(f"{place}/manifest.json"), "no evidence")
        self.assertEqual(0o700, stat.S_IMODE(os.stat(place).st_mode))
        self.assertEqual(0o600, stat.S_IMODE(os.stat(f"{place}/screenshot.png").st_mode))
        with open(f"{place}/manifest.json") as file:
            manifest = json.load(file)
        self.assertEqual(list(KINDS), [item["kind"] for item in manifest["items"]])
        url = self.deployment.serve_api()
        items = json.loads(
            self.deployment.command(url, "event", "evidence", event.event_id, "-f", "json")
        )
        self.assertEqual({place}, {item["path"] for item in items})
        with open(f"{place}/qemu_log.txt") as file:
            line = next(line for line in file if "-name guest=" in line)
        self.assertNotIn(line.strip(), agent.log())

    def test_evidence_is_saved_by_client(self):
        self.run_all(store="engine")
        _, event = self.panicked()
        self.stored(event)
        url = self.deployment.serve_api()
        directory = os.path.join(self.deployment.path, "saved")
        self.deployment.command(url, "event", "evidence", event.event_id, "--save", directory)
        for kind in KINDS:
            (name,) = (name for name in os.listdir(directory) if name.startswith(kind))
            with open(os.path.join(directory, name), "rb") as file:
                self.assertEqual(self.content(event, kind), file.read())


class TestOnPostgreSQL(PanicContract, EvidenceTest):
    server = PostgreSQL
