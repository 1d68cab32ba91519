# SPDX-License-Identifier: Apache-2.0
"""What each command prints, in each format."""

import csv
import dataclasses
import io

import fixtures
import yaml

from vmmonitor.db import incidents
from vmmonitor.model import errors
from vmmonitor.model.instance import Instance
from vmmonitor.tests.fixtures import sample
from vmmonitor.tests.functional.client import base

CRASH = sample.CRASH.incident_id
LINES = """\
     ms            since the callback on the host
    0.0  event     lifecycle.stopped/failed on compute-1 (critical, recover by rule crash)
    9.8  decision  rule crash opened the incident; policy restart-here applies
    9.8  hold      nothing acts for 5 s, in case it was planned or heals by itself
5,002.0  question  expectation libvirt says failed: nobody asked for the stop
5,003.0  state     pending -> recovering
5,011.5  recovery  attempt 1 of step 1, driver libvirt: called
5,900.4  event     lifecycle.started/booted on compute-1 (info, record by rule crash)
5,912.0  state     recovering -> resolved: the instance runs again
5,912.0  recovery  attempt 1 of step 1, driver libvirt: succeeded: the instance runs again
"""


def _ignore(tx, incident_id):
    incident = incidents.get(tx, incident_id)
    incidents.move(tx, incident, "plan", reason="it was planned", now=incident.updated_at + 1)


class TestFormats(base.CommandTest):
    LIST = ("event", "list", "--host", "compute-1", "--type", "io_error")

    def test_table(self):
        self.assertIn(
            "| 5d0f9c1a-0b8e-4d53-9f5e-000000000003 | 2026-11-22 13:16:39.000Z | compute-1 "
            "| store-1       | io_error | pause  | critical | recover |\n",
            self.printed(*self.LIST),
        )

    def test_json(self):
        (event,) = self.told(*self.LIST)
        self.assertEqual("2026-11-22T13:16:39.000123Z", event["occurred_at"])
        self.assertEqual("enospc", event["attributes"]["reason"])
        self.assertEqual(sample.STORE.uuid, event["instance_uuid"])
        self.assertEqual(sample.FULL.incident_id, event["incident_id"])

    def test_yaml(self):
        (event,) = yaml.safe_load(self.printed(*self.LIST, "-f", "yaml"))
        self.assertEqual(self.told(*self.LIST), [event])

    def test_csv(self):
        text = self.printed(*self.LIST, "--long", "-f", "csv")
        (event,) = csv.DictReader(io.StringIO(text))
        self.assertEqual("2026-11-22T13:16:39.000123Z", event["occurred_at"])
        self.assertIn('"reason": "enospc"', event["attributes"])

    def test_value(self):
        text = self.printed(*self.LIST, "-f", "value", "-c", "host", "-c", "incident_id")
        self.assertEqual(f"compute-1 {sample.FULL.incident_id}\n", text)


class TestEvent(base.CommandTest):
    def numbers(self, *words: str) -> list[int]:
        found = self.told("event", "list", *words)
        return [int(event["event_id"][-1]) for event in found]

    def test_list(self):
        for words, expected in (
            ((), [4, 3, 2, 1]),
            (("--limit", "3"), [4, 3, 2]),
            (("--limit", "0"), [4, 3, 2, 1]),
            (("--sort", "occurred_at:asc", "--limit", "1"), [1]),
            (("--instance", sample.STORE.uuid), [3]),
            (("--host", "compute-1", "--host", "compute-2"), [4, 3, 2, 1]),
            (("--type", "lifecycle.stopped", "--detail", "failed"), [1]),
            (("--severity", "critical"), [3, 1]),
            (("--action", "record", "--source", "libvirt"), [4, 2]),
            (("--incident", CRASH), [2, 1]),
            (("--project", sample.WEB.project_id), [4, 2, 1]),
            (("--since", "2026-11-22T13:16:00Z"), [4, 3]),
            (("--until", "2026-11-22T14:16:00+01:00"), [2, 1]),
        ):
            self.assertEqual(expected, self.numbers(*words), words)

    def test_since_ago(self):
        # The story is fixed in time; nobody reads this a century later.
        self.assertEqual([4, 3, 2, 1], self.numbers("--since", "5200w"))

    def test_show(self):
        event = self.told("event", "show", sample.EVENTS[2].event.event_id)
        self.assertEqual(sample.STORE.uuid, event["instance"]["uuid"])
        text = self.printed("event", "show", sample.EVENTS[2].event.event_id)
        self.assertRegex(text, r"\| instance_uuid +\| 0d2f6a3e-51a7-4f3c-b0e2-6a1f4f5c2b02 +\|")


class TestIncident(base.CommandTest):
    def test_list(self):
        for words, expected in (
            ((), ["pending", "resolved"]),
            (("--open",), ["pending"]),
            (("--closed",), ["resolved"]),
            (("--state", "resolved", "--state", "unrecovered"), ["resolved"]),
            (("--cause", "io_error/pause"), ["pending"]),
            (("--policy", "restart-here", "--host", "compute-1"), ["resolved"]),
            (("--instance", sample.WEB.uuid, "--severity", "critical"), ["resolved"]),
            (("--sort", "opened_at:asc"), ["resolved", "pending"]),
        ):
            found = [incident["state"] for incident in self.told("incident", "list", *words)]
            self.assertEqual(expected, found, words)

    def test_those_that_were_planned_are_listed_when_asked_for(self):
        self.api.database.run(_ignore, self.told("incident", "list", "--open")[0]["incident_id"])
        for words, expected in (
            ((), ["resolved"]),
            (("--closed",), ["resolved"]),
            (("--all",), ["ignored", "resolved"]),
            (("--state", "ignored"), ["ignored"]),
        ):
            found = [incident["state"] for incident in self.told("incident", "list", *words)]
            self.assertEqual(expected, found, words)

    def test_show_for_a_person(self):
        text = self.printed("incident", "show", CRASH)
        self.assertRegex(text, r"\| state +\| resolved +\|")
        self.assertTrue(text.endswith(LINES), text)
        self.assertLessEqual(max(map(len, text.splitlines())), 100)

    def test_show_for_a_program(self):
        incident = self.told("incident", "show", CRASH)
        self.assertEqual(9, len(incident["timeline"]))
        self.assertEqual(5011.5, incident["timeline"][5]["ms"])
        self.assertEqual([1, 2], [event["sequence"] for event in incident["events"]])
        self.assertEqual("libvirt", incident["recoveries"][0]["driver"])
        text = self.printed("incident", "show", CRASH, "-f", "yaml")
        self.assertEqual(incident, yaml.safe_load(text))

    def test_show_one_fact(self):
        text = self.printed("incident", "show", CRASH, "-f", "value", "-c", "state")
        self.assertEqual("resolved\n", text)

    def test_a_storm_with_its_members(self):
        storm = dataclasses.replace(
            sample.CRASH,
            incident_id="2b6c8f0e-77b4-4c1c-8f53-1f8d7d0a0009",
            instance=Instance(uuid=""),
            kind="storm",
            host="compute-1",
            cause="storm.host",
            shared_cause="host:compute-1",
            state="unhandled",
            closed_at=None,
        )
        self.api.database.run(incidents.insert, [storm])
        self.assertEqual([], self.told("incident", "list", "--part-of", storm.incident_id))
        self.api.database.run(_hold, sample.FULL.incident_id, storm.incident_id)
        (found,) = self.told("incident", "list", "--kind", "storm")
        self.assertEqual("host:compute-1", found["shared_cause"])
        for words in (("--part-of", storm.incident_id), ("--held-by", "storm")):
            (member,) = self.told("incident", "list", *words)
            self.assertEqual(sample.FULL.incident_id, member["incident_id"])
            self.assertEqual(("storm", 7), (member["held_by"], member["priority"]))
        text = self.printed("incident", "show", storm.incident_id)
        self.assertRegex(text, "member:\n2b6c8f0e-77b4-4c1c-8f53-1f8d7d0a0002  held .*store-1")
        self.assertLessEqual(max(map(len, text.splitlines())), 100)
        self.assertNotIn("member", self.printed("incident", "show", CRASH))

    def test_a_host_that_is_not_watched(self):
        self.assertEqual([], self.told("incident", "list", "--kind", "host"))
        unwatched = dataclasses.replace(
            sample.FULL,
            incident_id=sample.CRASH.incident_id[:-1] + "3",
            kind="host",
            host="compute-2",
            instance=Instance(uuid=""),
            cause="agent.late",
            state="unhandled",
        )
        self.api.database.run(incidents.insert, [unwatched])
        (told,) = self.told("incident", "list", "--kind", "host")
        self.assertEqual(
            ("host", "", "agent.late"), (told["kind"], told["instance_uuid"], told["cause"])
        )
        self.assertEqual(2, len(self.told("incident", "list", "--kind", "instance")))
        text = self.printed("incident", "show", unwatched.incident_id)
        self.assertRegex(text, r"\| kind +\| host +\|")
        self.assertIn("since the host was last watched\n", text)


class TestRecovery(base.CommandTest):
    def test_list(self):
        ours = ("--driver", "libvirt", "--state", "succeeded", "--incident", CRASH)
        self.assertEqual(1, len(self.told("recovery", "list", *ours)))
        self.assertEqual([], self.told("recovery", "list", "--state", "running"))

    def test_show(self):
        recovery = self.told("recovery", "show", sample.RESTART.recovery_id)
        self.assertEqual("succeeded", recovery["state"])


class TestAgent(base.CommandTest):
    def test_list(self):
        agents = self.told("agent", "list")
        self.assertEqual(
            [("compute-1", "up"), ("compute-2", "late")],
            [(agent["host"], agent["state"]) for agent in agents],
        )
        self.assertEqual(1, len(self.told("agent", "list", "--state", "late")))
        self.assertEqual(
            (1.0, 12, None, "2026-11-22T13:00:39.001123Z"),
            tuple(
                agents[1][name]
                for name in ("clock_offset_ms", "spool_depth", "last_event_at", "unwatched_since")
            ),
        )

    def test_list_for_a_person(self):
        lines = self.printed("agent", "list").splitlines()
        for line, expected in (
            (1, "host state reason version instances spool last event clock seen"),
            (3, r"compute-1 up _ 1.0.0 2 0 [-:\d]+ \+1 ms [-:\d]+"),
            (4, r"compute-2 late does not report 1.0.0 0 12 _ \+1 ms [-:\d]+"),
            (5, "_ _ any more; was _ _ _ _ _ _"),
        ):
            cells = [cell.strip() or "_" for cell in lines[line].split("|")[1:-1]]
            self.assertRegex(" ".join(cells), f"^{expected}$")
        text = self.printed("agent", "list", "--long")
        self.assertIn("| clock_correction_ms |", text)
        text = self.printed("agent", "list", "-c", "host", "-c", "seen_at", "-f", "value")
        self.assertEqual("compute-1 2026-11-22T13:16:49.001123Z", text.splitlines()[0])

    def test_show(self):
        agent = self.told("agent", "show", "compute-2")
        self.assertEqual((12, None), (agent["spool_depth"], agent["last_event_at"]))


class TestErrors(base.CommandTest):
    def assert_told(self, code: int, *words: str, **where: str) -> str:
        done, out, err = self.run_command(*words, **where)
        self.assertEqual((code, ""), (done, out))
        self.assertEqual(1, err.count("\n"), err)
        return err

    def test_nothing_listens(self):
        err = self.assert_told(1, "agent", "list", endpoint="http://127.0.0.1:9/")
        self.assertIn("cannot reach the vmmonitor API at http://127.0.0.1:9", err)
        self.assertIn("--endpoint", err)
        self.assertIn("VMMONITOR_ENDPOINT", err)

    def test_something_else_listens(self):
        err = self.assert_told(1, "agent", "list", endpoint=f"{self.served.url}/healthcheck?x=")
        self.assertIn("does not answer like the vmmonitor API", err)

    def test_no_such_thing(self):
        err = self.assert_told(1, "incident", "show", "nobody? &%")
        self.assertIn("'nobody? &%'", err)

    def test_a_bad_parameter(self):
        err = self.assert_told(1, "event", "list", "--instance", "web-1")
        self.assertIn("instance_uuid: 'web-1' is not a UUID", err)

    def test_the_database_is_away(self):
        away = errors.Retriable("The database cannot be reached")
        self.useFixture(fixtures.MockPatchObject(self.api.database, "reader", side_effect=away))
        err = self.assert_told(1, "agent", "list")
        self.assertIn("The database cannot be reached (HTTP status 503", err)

    def test_the_service_has_a_bug(self):
        with self.api.database.writer() as tx:
            tx.exec_driver_sql("ALTER TABLE agents RENAME TO elsewhere")
        err = self.assert_told(1, "agent", "list")
        self.assertRegex(err, "its log tells more .*HTTP status 500, request req-")

    def test_follow_has_its_own_order(self):
        self.assert_told(1, "event", "list", "--follow", "--sort", "occurred_at")


def _hold(tx, incident_id, storm_id):
    one = incidents.lock(tx, incident_id)
    changes = {"held_by": "storm", "part_of": storm_id, "priority": 7}
    incidents.move(tx, one, "hold", reason="a storm", now=one.updated_at, **changes)
