# SPDX-License-Identifier: Apache-2.0
"""The output of each command, in each format."""

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
     ms            since the report of libvirt
    0.0  event     lifecycle.stopped/failed on compute-1 (critical, incident by rule crash)
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
    incidents.transition(
        tx, incident, "plan", reason="it was planned", now=incident.updated_at + 1
    )


class TestFormats(base.CommandTest):
    LIST = ("event", "list", "--host", "compute-1", "--type", "io_error")

    def test_table_contains_short_columns(self):
        self.assertIn(
            "| 5d0f9c1a-0b8e-4d53-9f5e-000000000003 | 2026-11-22 13:16:39.000Z | compute-1 "
            "| store-1       | io_error | pause  | critical | incident |\n",
            self.printed(*self.LIST),
        )

    def test_json_contains_all_columns(self):
        (event,) = self.parsed(*self.LIST)
        self.assertEqual("2026-11-22T13:16:39.000123Z", event["occurred_at"])
        self.assertEqual("enospc", event["attributes"]["reason"])
        self.assertEqual(sample.STORE.uuid, event["instance_uuid"])
        self.assertEqual(sample.FULL.incident_id, event["incident_id"])

    def test_yaml_equals_json(self):
        (event,) = yaml.safe_load(self.printed(*self.LIST, "-f", "yaml"))
        self.assertEqual(self.parsed(*self.LIST), [event])

    def test_csv_contains_selected_columns(self):
        text = self.printed(*self.LIST, "--long", "-f", "csv")
        (event,) = csv.DictReader(io.StringIO(text))
        self.assertEqual("2026-11-22T13:16:39.000123Z", event["occurred_at"])
        self.assertIn('"reason": "enospc"', event["attributes"])

    def test_value_contains_selected_columns(self):
        text = self.printed(*self.LIST, "-f", "value", "-c", "host", "-c", "incident_id")
        self.assertEqual(f"compute-1 {sample.FULL.incident_id}\n", text)


class TestEvent(base.CommandTest):
    def numbers(self, *arguments: str) -> list[int]:
        found = self.parsed("event", "list", *arguments)
        return [int(event["event_id"][-1]) for event in found]

    def test_list_filters_events(self):
        for arguments, expected in (
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
            self.assertEqual(expected, self.numbers(*arguments), arguments)

    def test_list_accepts_duration_before_now(self):
        # The sample data has fixed times; 5200 weeks are enough until the year 2126.
        self.assertEqual([4, 3, 2, 1], self.numbers("--since", "5200w"))

    def test_show_prints_each_field(self):
        event = self.parsed("event", "show", sample.EVENTS[2].event.event_id)
        self.assertEqual(sample.STORE.uuid, event["instance"]["uuid"])
        text = self.printed("event", "show", sample.EVENTS[2].event.event_id)
        self.assertRegex(text, r"\| instance_uuid +\| 0d2f6a3e-51a7-4f3c-b0e2-6a1f4f5c2b02 +\|")


class TestIncident(base.CommandTest):
    def test_list_filters_incidents(self):
        for arguments, expected in (
            ((), ["pending", "resolved"]),
            (("--open",), ["pending"]),
            (("--closed",), ["resolved"]),
            (("--state", "resolved", "--state", "unrecovered"), ["resolved"]),
            (("--cause", "io_error/pause"), ["pending"]),
            (("--policy", "restart-here", "--host", "compute-1"), ["resolved"]),
            (("--instance", sample.WEB.uuid, "--severity", "critical"), ["resolved"]),
            (("--sort", "opened_at:asc"), ["resolved", "pending"]),
        ):
            found = [incident["state"] for incident in self.parsed("incident", "list", *arguments)]
            self.assertEqual(expected, found, arguments)

    def test_ignored_incidents_are_listed_on_request(self):
        self.api.database.run(_ignore, self.parsed("incident", "list", "--open")[0]["incident_id"])
        for arguments, expected in (
            ((), ["resolved"]),
            (("--closed",), ["resolved"]),
            (("--all",), ["ignored", "resolved"]),
            (("--state", "ignored"), ["ignored"]),
        ):
            found = [incident["state"] for incident in self.parsed("incident", "list", *arguments)]
            self.assertEqual(expected, found, arguments)

    def test_show_prints_timeline_in_table(self):
        text = self.printed("incident", "show", CRASH)
        self.assertRegex(text, r"\| state +\| resolved +\|")
        self.assertTrue(text.endswith(LINES), text)
        self.assertLessEqual(max(map(len, text.splitlines())), 100)

    def test_show_prints_timeline_in_json(self):
        incident = self.parsed("incident", "show", CRASH)
        self.assertEqual(9, len(incident["timeline"]))
        self.assertEqual(5011.5, incident["timeline"][5]["ms"])
        self.assertEqual([1, 2], [event["sequence"] for event in incident["events"]])
        self.assertEqual("libvirt", incident["recoveries"][0]["driver"])
        text = self.printed("incident", "show", CRASH, "-f", "yaml")
        self.assertEqual(incident, yaml.safe_load(text))

    def test_show_prints_selected_column_only(self):
        text = self.printed("incident", "show", CRASH, "-f", "value", "-c", "state")
        self.assertEqual("resolved\n", text)

    def test_storm_is_shown_with_its_members(self):
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
        self.assertEqual([], self.parsed("incident", "list", "--part-of", storm.incident_id))
        self.api.database.run(_hold, sample.FULL.incident_id, storm.incident_id)
        (found,) = self.parsed("incident", "list", "--kind", "storm")
        self.assertEqual("host:compute-1", found["shared_cause"])
        for arguments in (("--part-of", storm.incident_id), ("--held-by", "storm")):
            (member,) = self.parsed("incident", "list", *arguments)
            self.assertEqual(sample.FULL.incident_id, member["incident_id"])
            self.assertEqual(("storm", 7), (member["held_by"], member["priority"]))
        text = self.printed("incident", "show", storm.incident_id)
        self.assertRegex(text, "member:\n2b6c8f0e-77b4-4c1c-8f53-1f8d7d0a0002  held .*store-1")
        self.assertLessEqual(max(map(len, text.splitlines())), 100)
        self.assertNotIn("member", self.printed("incident", "show", CRASH))

    def test_host_incident_is_shown(self):
        self.assertEqual([], self.parsed("incident", "list", "--kind", "host"))
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
        (found,) = self.parsed("incident", "list", "--kind", "host")
        self.assertEqual(
            ("host", "", "agent.late"), (found["kind"], found["instance_uuid"], found["cause"])
        )
        self.assertEqual(2, len(self.parsed("incident", "list", "--kind", "instance")))
        text = self.printed("incident", "show", unwatched.incident_id)
        self.assertRegex(text, r"\| kind +\| host +\|")
        self.assertIn("since the host was last monitored\n", text)


class TestRecovery(base.CommandTest):
    def test_list_filters_recoveries(self):
        ours = ("--driver", "libvirt", "--state", "succeeded", "--incident", CRASH)
        self.assertEqual(1, len(self.parsed("recovery", "list", *ours)))
        self.assertEqual([], self.parsed("recovery", "list", "--state", "running"))

    def test_show_prints_each_field(self):
        recovery = self.parsed("recovery", "show", sample.RESTART.recovery_id)
        self.assertEqual("succeeded", recovery["state"])


class TestAgent(base.CommandTest):
    def test_list_filters_agents(self):
        agents = self.parsed("agent", "list")
        self.assertEqual(
            [("compute-1", "up"), ("compute-2", "late")],
            [(agent["host"], agent["state"]) for agent in agents],
        )
        self.assertEqual(1, len(self.parsed("agent", "list", "--state", "late")))
        self.assertEqual(
            (1.0, 12, None, "2026-11-22T13:00:39.001123Z"),
            tuple(
                agents[1][name]
                for name in ("clock_offset_ms", "spool_depth", "last_event_at", "unwatched_since")
            ),
        )

    def test_list_fits_into_terminal(self):
        lines = self.printed("agent", "list").splitlines()
        for line, expected in (
            (1, "host state reason version instances spool last event clock seen"),
            (3, r"compute-1 up _ 1.0.0 2 0 [-:\d]+ \+1 ms [-:\d]+"),
            (4, r"compute-2 late does not report 1.0.0 0 12 _ \+1 ms [-:\d]+"),
            (5, "_ _ any longer; was _ _ _ _ _ _"),
        ):
            cells = [cell.strip() or "_" for cell in lines[line].split("|")[1:-1]]
            self.assertRegex(" ".join(cells), f"^{expected}$")
        text = self.printed("agent", "list", "--long")
        self.assertIn("| clock_correction_ms |", text)
        text = self.printed("agent", "list", "-c", "host", "-c", "seen_at", "-f", "value")
        self.assertEqual("compute-1 2026-11-22T13:16:49.001123Z", text.splitlines()[0])

    def test_show_prints_each_field(self):
        agent = self.parsed("agent", "show", "compute-2")
        self.assertEqual((12, None), (agent["spool_depth"], agent["last_event_at"]))


class TestErrors(base.CommandTest):
    def assert_error(self, code: int, *arguments: str, **where: str) -> str:
        done, out, err = self.run_command(*arguments, **where)
        self.assertEqual((code, ""), (done, out))
        self.assertEqual(1, err.count("\n"), err)
        return err

    def test_missing_server_is_reported(self):
        err = self.assert_error(1, "agent", "list", endpoint="http://127.0.0.1:9/")
        self.assertIn("cannot reach the vmmonitor API at http://127.0.0.1:9", err)
        self.assertIn("--endpoint", err)
        self.assertIn("VMMONITOR_ENDPOINT", err)

    def test_other_server_is_reported(self):
        err = self.assert_error(1, "agent", "list", endpoint=f"{self.served.url}/healthcheck?x=")
        self.assertIn("is not a vmmonitor API", err)

    def test_unknown_id_is_reported(self):
        err = self.assert_error(1, "incident", "show", "unknown? &%")
        self.assertIn("'unknown? &%'", err)

    def test_invalid_parameter_is_reported(self):
        err = self.assert_error(1, "event", "list", "--instance", "web-1")
        self.assertIn("instance_uuid: 'web-1' is not a UUID", err)

    def test_unavailable_database_is_reported(self):
        away = errors.Retriable("The database cannot be reached")
        self.useFixture(fixtures.MockPatchObject(self.api.database, "reader", side_effect=away))
        err = self.assert_error(1, "agent", "list")
        self.assertIn("The database cannot be reached (HTTP status 503", err)

    def test_internal_error_is_reported(self):
        with self.api.database.writer() as tx:
            tx.exec_driver_sql("ALTER TABLE agents RENAME TO elsewhere")
        err = self.assert_error(1, "agent", "list")
        self.assertRegex(err, "the log of the service has .*HTTP status 500, request req-")

    def test_follow_with_sort_is_rejected(self):
        self.assert_error(1, "event", "list", "--follow", "--sort", "occurred_at")


def _hold(tx, incident_id, storm_id):
    one = incidents.lock(tx, incident_id)
    changes = {"held_by": "storm", "part_of": storm_id, "priority": 7}
    incidents.transition(tx, one, "hold", reason="a storm", now=one.updated_at, **changes)
