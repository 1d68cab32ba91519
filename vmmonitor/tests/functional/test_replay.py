# SPDX-License-Identifier: Apache-2.0
"""``vmmonitor-manage filter replay``, ``policy replay`` and ``policy explain`` on a database."""

import argparse
import contextlib
import dataclasses
import io
import json
import os
import tracemalloc
import unittest.mock
from typing import Any

import fixtures
import testtools

from vmmonitor.cmd import manage_rules, stored
from vmmonitor.db import events, incidents, scan, timeline_entries
from vmmonitor.model.event import CRITICAL, INCIDENT, INFO, RECORD, WARNING, Decision, StoredEvent
from vmmonitor.model.timeline import TimelineEntry
from vmmonitor.tests.fixtures.database import SQLite
from vmmonitor.tests.functional.db import samples
from vmmonitor.tests.functional.db.samples import NOON, SECOND
from vmmonitor.tests.functional.engine import base
from vmmonitor.tests.functional.engine.base import IT_FAILED, delivery, policy, step

DAY = 86_400
#: Events of the great replay, and how many bytes it may take at its highest.
MANY = 10_000
MOST_BYTES = 8_000_000

FILTERS = """
version: 1
default: {action: record}
rules:
- name: died
  match: {type: lifecycle.stopped, detail: failed}
  action: incident
- name: quiet
  match: {type: reboot}
  action: ignore
"""
RATE = """
version: 1
rules:
- name: often
  match: {type: io_error}
  rate: {count: 3, seconds: 60, per: [attributes.device]}
  action: incident
- name: once
  match: {type: io_error}
  action: record
"""


def happened(number: int = 0, **fields: Any) -> StoredEvent:
    """An event that rule died had recovered, unless told otherwise."""
    decision = {
        name: fields.pop(name) for name in ("action", "severity", "rule") if name in fields
    }
    known = {
        "event_id": samples.new_id(),
        "type": "lifecycle.stopped",
        "detail": "failed",
        "occurred_at": NOON + number,
    }
    plain = samples.stored()
    event = dataclasses.replace(plain.event, **(known | fields))
    made = {"action": INCIDENT, "severity": CRITICAL, "rule": "died"} | decision
    return dataclasses.replace(plain, event=event, decision=Decision(**made))


class Commands:
    """Runs ``vmmonitor-manage`` in this process, on this test's database."""

    def file(self, name: str, content: str) -> str:
        path = os.path.join(self.useFixture(fixtures.TempDir()).path, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(content)
        return path

    def manage(self, *words: str) -> tuple[int, str, str]:
        """Return exit code, output and errors."""
        parser = argparse.ArgumentParser()
        manage_rules.register(parser.add_subparsers(required=True))
        args = parser.parse_args(words)
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = args.run(self.conf, args)
        return code, out.getvalue(), err.getvalue()

    def printed(self, *words: str) -> str:
        code, out, err = self.manage(*words)
        self.assertEqual((0, ""), (code, err))
        return out

    def refused(self, *words: str) -> str:
        """Return the one line in which a command says why it does nothing."""
        code, out, err = self.manage(*words)
        self.assertEqual((1, ""), (code, out))
        self.assertEqual(1, err.count("\n"), err)
        return err


class FilterCase(Commands, testtools.TestCase):
    def setUp(self):
        super().setUp()
        sqlite = self.useFixture(SQLite())
        self.conf, self.database = sqlite.conf, sqlite.database

    def keep(self, *happenings: StoredEvent) -> None:
        self.database.run(events.insert, happenings)

    def replay(self, content: str, since: str = "2000-01-01") -> dict[str, Any]:
        path = self.file("filters.yaml", content)
        return json.loads(self.printed("filter", "replay", "--since", since, "--json", path))

    def test_nothing_is_stored(self):
        path = self.file("filters.yaml", FILTERS)
        out = self.printed("filter", "replay", path)
        self.assertEqual(
            "0 events looked at, 0 would be decided differently", out.splitlines()[-1]
        )

    def test_what_would_be_the_same_is_only_counted(self):
        self.keep(*map(happened, range(5)))
        told = self.replay(FILTERS)
        self.assertEqual((5, 0, []), (told["looked_at"], told["differ"], told["pairs"]))

    def test_what_would_differ_is_told_by_pairs_with_examples(self):
        self.keep(
            *(happened(n, type="reboot", detail="", action=RECORD, rule="old") for n in range(7)),
            happened(9, severity=WARNING),
            happened(10),
        )
        told = self.replay(FILTERS)
        self.assertEqual((9, 8, 7), (told["looked_at"], told["differ"], told["other_action"]))
        often, once = told["pairs"]
        self.assertEqual((7, 3), (often["count"], len(often["examples"])))
        self.assertEqual({"name": "old", "action": RECORD, "detail": CRITICAL}, often["old"])
        self.assertEqual({"name": "quiet", "action": "ignore", "detail": INFO}, often["new"])
        self.assertEqual("reboot", often["examples"][0]["cause"])
        self.assertEqual((1, WARNING), (once["count"], once["old"]["detail"]))
        self.assertIn("rules that decided then and are not in the file: old", told["notes"])

    def test_for_a_person(self):
        one = happened(type="reboot", detail="", action=RECORD, rule="o\x1b[2Jld")
        self.keep(one)
        path = self.file("filters.yaml", FILTERS)
        lines = self.printed("filter", "replay", "--since", "2000-01-01", path).splitlines()
        self.assertEqual("1 x  was: record, by o?[2Jld (critical)", lines[0])
        self.assertEqual("     now: ignore, by quiet (info)", lines[1])
        self.assertIn(one.event.event_id, lines[2])
        self.assertEqual(
            "1 events looked at, 1 would be decided differently, 1 of them with another action",
            lines[-1],
        )

    def test_since(self):
        now = self.database.now()
        ages = (1, 3600, 2 * DAY, 8 * DAY)
        self.keep(*(happened(occurred_at=now - age * SECOND) for age in ages))
        for since, expected in (("30m", 1), ("1h", 1), ("3d", 3), ("2w", 4)):
            self.assertEqual(expected, self.replay(FILTERS, since)["looked_at"], since)
        path = self.file("filters.yaml", FILTERS)
        self.assertIn("3 events looked at", self.printed("filter", "replay", path))

    def test_each_host_counts_by_itself_from_before_the_time_on(self):
        errors = {"type": "io_error", "detail": "report", "action": RECORD, "rule": "once"}
        errors |= {"severity": INFO, "attributes": {"device": "vda"}}
        self.keep(
            *(happened(n * SECOND, host="compute-1", **errors) for n in range(3)),
            *(happened(n * SECOND, host="compute-2", **errors) for n in range(2)),
        )
        told = self.replay(RATE, stored.time(NOON + 2 * SECOND))
        self.assertEqual((1, 1), (told["looked_at"], told["differ"]))
        (pair,) = told["pairs"]
        self.assertEqual("often", pair["new"]["name"])
        self.assertEqual("compute-1", pair["examples"][0]["host"])
        self.assertTrue(any("rate (often)" in note for note in told["notes"]))

    def test_very_many_in_bounded_memory(self):
        def some(first: int) -> list[StoredEvent]:
            hosts = ("compute-1", "compute-2", "compute-3")
            return [
                happened(n, host=hosts[n % 3], type="reboot", action=RECORD, rule=f"r{n % 7}")
                for n in range(first, first + 1000)
            ]

        for first in range(0, MANY, 1000):
            self.keep(*some(first))
        path = self.file("filters.yaml", FILTERS)
        words = ("filter", "replay", "--since", "2000-01-01", "--json", path)
        self.printed(*words)  # What is imported and compiled once does not count.
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        told = json.loads(self.printed(*words))
        _, highest = tracemalloc.get_traced_memory()
        self.assertEqual((MANY, MANY), (told["looked_at"], told["differ"]))
        self.assertEqual(7, len(told["pairs"]))
        self.assertEqual(MANY, sum(pair["count"] for pair in told["pairs"]))
        self.assertLess(highest, MOST_BYTES)

    def test_pages_follow_each_other(self):
        moments = [NOON, NOON, NOON, NOON + 1, NOON + 1, NOON + 2]
        self.keep(*(happened(occurred_at=at) for at in moments))
        for size in range(1, 8):
            told = list(scan.events(self.database, "compute-1", 0, size))
            self.assertEqual(moments, [one.event.occurred_at for one in told])
            self.assertEqual(6, len({one.event.event_id for one in told}))

    def test_what_comes_in_meanwhile_is_left_out(self):
        self.keep(happened(1), happened(2))
        told = scan.events(self.database, "compute-1", 0, 1)
        next(told)
        self.keep(happened(3))
        self.assertEqual(1, len(list(told)))

    # -- what is wrong -------------------------------------------------------------------------
    def test_a_bad_time(self):
        path = self.file("filters.yaml", FILTERS)
        for since in ("yesterday", "7", "7y", "", "2026-13-01"):
            err = self.refused("filter", "replay", "--since", since, path)
            self.assertIn(f"--since: {since!r} is neither", err)

    def test_a_broken_file(self):
        path = self.file("filters.yaml", "version: 1\nrules: 5\n")
        self.assertIn(f"{path}:2", self.refused("filter", "replay", path))
        self.assertIn("cannot read", self.refused("policy", "replay", "/no/such/file"))

    def test_no_database(self):
        path = self.file("filters.yaml", FILTERS)
        nowhere = self.useFixture(fixtures.TempDir()).path
        self.conf.set_override("connection", f"sqlite:///{nowhere}/none", "database")
        self.assertIn("vmmonitor-manage db sync", self.refused("filter", "replay", path))
        with unittest.mock.patch("importlib.util.find_spec", return_value=None):
            self.assertIn("where an engine", self.refused("filter", "replay", path))


class PolicyCase(Commands, base.EngineCase):
    """The incidents are an engine's own."""

    def write(self, *rows: dict[str, Any]) -> str:
        return self.load(*rows).path

    def opened(self, count: int = 1, **fields: Any) -> None:
        for number in range(count):
            uuid = f"{base.UUID[:-4]}{number:04}"
            self.store(delivery(uuid=uuid, **fields))

    def replay(self, *rows: dict[str, Any]) -> dict[str, Any]:
        path = self.write(*rows)
        words = ("policy", "replay", "--since", "2000-01-01", "--json", path)
        return json.loads(self.printed(*words))

    def test_the_same(self):
        self.opened(3)
        told = self.replay(policy())
        self.assertEqual((3, 0, []), (told["looked_at"], told["differ"], told["pairs"]))

    def test_another_policy(self):
        self.opened(3)
        told = self.replay(policy("gentle", hold=5, steps=[]))
        self.assertEqual((3, 3), (told["differ"], told["other_action"]))
        (pair,) = told["pairs"]
        self.assertEqual(
            {"name": "restart", "action": "recover", "detail": "hold 0 s; fake 3 x"}, pair["old"]
        )
        self.assertEqual({"name": "gentle", "action": "leave", "detail": "hold 5 s"}, pair["new"])
        self.assertIn("incident_id", pair["examples"][0])
        self.assertIn("policies that applied then and are not in the file: restart", told["notes"])

    def test_none_any_more(self):
        self.opened()
        (pair,) = self.replay(policy(match={"type": "watchdog"}))["pairs"]
        self.assertEqual(("", "leave"), (pair["new"]["name"], pair["new"]["action"]))

    def test_the_same_policy_with_other_steps(self):
        self.opened()
        changed = policy(hold=2, steps=[step(attempts=5), step("webhook")])
        told = self.replay(changed)
        (pair,) = told["pairs"]
        self.assertEqual("hold 0.0, step 1 attempts 3, step 2 none", pair["old"]["detail"])
        self.assertEqual("hold 2.0, step 1 attempts 5, step 2 webhook", pair["new"]["detail"])
        self.assertEqual((1, 0), (told["differ"], told["other_action"]))

    def test_the_event_that_chose_last_counts(self):
        self.policies = self.load(
            policy("io", {"type": "io_error"}, hold=60),
            policy("stop", {"type": "lifecycle.stopped"}),
        )
        self.store(delivery("io_error/pause"))
        self.store(delivery())
        told = self.replay(policy("stop", {"type": "lifecycle.stopped"}))
        self.assertEqual((1, 0), (told["looked_at"], told["differ"]))

    def test_incidents_without_a_plan_are_compared_by_name(self):
        self.opened(2)
        with self.database.writer() as tx:
            tx.exec_driver_sql("UPDATE timeline_entries SET data = '{}' WHERE kind = 'hold'")
        self.assertEqual(0, self.replay(policy(hold=9))["differ"])
        told = self.replay(policy("other"))
        self.assertEqual((2, 0), (told["differ"], told["other_action"]))
        self.assertTrue(any(note.startswith("of 2 incidents only") for note in told["notes"]))

    def test_incidents_whose_events_are_deleted(self):
        self.opened(2)
        with self.database.writer() as tx:
            tx.exec_driver_sql("DELETE FROM events")
        told = self.replay(policy())
        self.assertEqual(0, told["looked_at"])
        self.assertTrue(any(note.startswith("2 more incidents") for note in told["notes"]))

    # -- explain -------------------------------------------------------------------------------
    def explain(self, *rows: dict[str, Any]) -> str:
        path = self.write(*rows)
        return self.printed("policy", "explain", self.incident().incident_id, "--file", path)

    def test_an_incident_that_got_the_same(self):
        self.store(delivery())
        self.decide(IT_FAILED)
        out = self.explain(policy("lab", {"host": "lab"}), policy())
        for line in (
            "incident of instance web on host compute-1, opened 2023-11-14T22:13:20.000Z, "
            "recovering\n",
            "lifecycle.stopped/failed from libvirt, by ",
            "  lab: no, host = 'lab' fails",
            "  restart: matches\n-> restart: hold 0 s\n   step 1: fake, attempts 3",
            "it got the same: restart\n",
            "   [recovery] verdict_retry_interval = 10.0: ",
        ):
            self.assertIn(line, out)

    def test_an_incident_that_got_another_one(self):
        self.store(delivery())
        out = self.explain(policy("lab", {"host": "lab"}))
        self.assertIn("-> no policy: an incident stays open\n", out)
        self.assertIn("it got another one: recover, by restart (hold 0 s; fake 3 x)\n", out)
        self.assertIn("policy restart is not in the file\n", out)

    def test_there_is_no_such_incident(self):
        path = self.write(policy())
        err = self.refused("policy", "explain", samples.new_id(), "--file", path)
        self.assertIn("There is no such thing", err)

    def test_an_incident_that_does_not_tell(self):
        self.store(delivery())
        with self.database.writer() as tx:
            tx.exec_driver_sql("DELETE FROM timeline_entries")
        path = self.write(policy())
        ident = self.incident().incident_id
        self.assertIn("which event", self.refused("policy", "explain", ident, "--file", path))

    def test_an_incident_of_a_host(self):
        incident = samples.incident(kind="host")
        line = TimelineEntry(
            incident_id=incident.incident_id, at=NOON, kind="decision", message="late"
        )
        with self.database.writer() as tx:
            incidents.insert(tx, [incident])
            timeline_entries.insert(tx, [line])
        path = self.write(policy())
        err = self.refused("policy", "explain", incident.incident_id, "--file", path)
        self.assertIn("a host that is not watched", err)
