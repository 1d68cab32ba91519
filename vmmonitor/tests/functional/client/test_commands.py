# SPDX-License-Identifier: Apache-2.0
"""What each command prints, in each format."""

import csv
import io

import fixtures
import yaml

from vmmonitor.db import incidents
from vmmonitor.model import errors
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
            (("--state", "resolved", "--state", "failed"), ["resolved"]),
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
