# SPDX-License-Identifier: Apache-2.0
"""What is told of which change, how loudly, and in which form."""

import dataclasses
import hashlib
import json
import pathlib
import re
import unittest

import jsonschema
import yaml

import vmmonitor
from vmmonitor.model import event as events
from vmmonitor.model import states
from vmmonitor.model.instance import Instance
from vmmonitor.model.notification import Change
from vmmonitor.model.states import IncidentState, RecoveryState
from vmmonitor.rpc import payloads
from vmmonitor.tests.fixtures import notification_samples as samples

ADMIN = pathlib.Path(vmmonitor.__file__).parent.parent / "doc" / "source" / "admin"
SHOWN = ADMIN / "notification-samples"
DATA = "vmmonitor_object.data"

#: (payload, version) -> what its schema is, for good. What a version says is never changed: add
#: a line for a new version instead.
FINGERPRINTS = {
    ("IncidentPayload", "1.0"): "fc3520ce4fe75f1c",
    ("RecoveryPayload", "1.0"): "4a6b5dff8f84fcae",
}


def told(before, after):
    """What is told of a change."""
    return payloads.notification(Change(before=before, after=after, at=samples.NOON), samples.WEB)


def incident(**fields):
    return dataclasses.replace(samples.INCIDENT, **fields)


def recovery(**fields):
    return dataclasses.replace(samples.RECOVERY, **fields)


class TestVersions(unittest.TestCase):
    def test_what_a_version_says_never_changes(self):
        """If this fails: raise the version in ``payloads.VERSIONS``, tell it in the history there,
        and add the new fingerprint here."""
        for name, schema in payloads.SCHEMAS.items():
            form = json.dumps(schema, sort_keys=True).encode()
            known = FINGERPRINTS.get((name, payloads.VERSIONS[name]))
            self.assertEqual(known, hashlib.sha256(form).hexdigest()[:16], name)


class TestSamples(unittest.TestCase):
    def test_each_type_has_one_that_keeps_to_its_schema(self):
        found = samples.messages()
        self.assertEqual(sorted(payloads.types()), sorted(found))
        for name, message in found.items():
            with self.subTest(name):
                payload = message["payload"]
                schema = payloads.SCHEMAS[payload["vmmonitor_object.name"]]
                jsonschema.Draft202012Validator(
                    schema, format_checker=jsonschema.FormatChecker()
                ).validate(payload)
                self.assertEqual(payload, json.loads(json.dumps(payload)))

    def test_the_documentation_shows_them_as_they_are(self):
        """If this fails: run ``python -m vmmonitor.tests.fixtures.notification_samples`` with
        the directory."""
        shown = {path.name: json.loads(path.read_text()) for path in SHOWN.glob("*.json")}
        self.assertEqual(json.loads(json.dumps(samples.files())), shown)

    def test_the_page_names_every_type_once(self):
        page = (ADMIN / "notifications.rst").read_text()
        headings = re.findall(r"^(vmmonitor\.\w+\.\w+)\n-+$", page, re.MULTILINE)
        self.assertEqual(sorted(payloads.types()), sorted(headings))
        for name in samples.files():
            self.assertEqual(1, page.count(f"notification-samples/{name}"), name)

    def test_the_page_explains_every_value(self):
        page = (ADMIN / "notifications.rst").read_text()
        for data in payloads.DATA.values():
            self.assertEqual([], [name for name in data if f"``{name}``" not in page])

    def test_what_ceilometer_is_told_to_read_is_there(self):
        page = (ADMIN / "notifications.rst").read_text()
        block = re.search(r"event_definitions.yaml\n\n((?:   .*\n|\n)+)", page)
        rows = yaml.safe_load(re.sub(r"^   ", "", block[1], flags=re.MULTILINE))
        self.assertEqual(
            ["vmmonitor.incident.*", "vmmonitor.recovery.*"], [row["event_type"] for row in rows]
        )
        for row, data in zip(rows, payloads.DATA.values(), strict=True):
            for name, trait in row["traits"].items():
                field = re.fullmatch(r"payload\.'vmmonitor_object\.data'\.(\w+)", trait["fields"])
                self.assertIn(field[1], data, name)


class TestTypes(unittest.TestCase):
    def test_a_new_one_is_told(self):
        self.assertEqual("vmmonitor.incident.pending", told(None, incident()).event_type)
        self.assertEqual("vmmonitor.recovery.requested", told(None, recovery()).event_type)

    def test_every_state_that_is_entered_is_told(self):
        for state in states.INCIDENT_TRANSITIONS:
            if state != IncidentState.PENDING:
                found = told(incident(), incident(state=state))
                self.assertEqual(f"vmmonitor.incident.{state}", found.event_type)
                self.assertEqual("pending", found.payload[DATA]["old_state"])
        for state in states.RECOVERY_TRANSITIONS:
            if state != RecoveryState.REQUESTED:
                found = told(recovery(), recovery(state=state))
                self.assertEqual(f"vmmonitor.recovery.{state}", found.event_type)

    def test_an_incident_that_learns_more_of_itself_is_told_again(self):
        for news in ({"host": "b"}, {"cause": "b"}, {"severity": "info"}, {"policy": "b"}):
            found = told(incident(), incident(**news))
            self.assertEqual("vmmonitor.incident.updated", found.event_type)
        self.assertEqual("info", found.priority)

    def test_what_only_waits_on_is_not_told_again(self):
        for news in ({"hold_until": 9}, {"reason": "b"}, {"event_count": 7}):
            self.assertIsNone(told(incident(), incident(**news)))

    def test_a_recovery_that_is_taken_over_is_told_again(self):
        running = recovery(state=RecoveryState.RUNNING, lease_owner="a")
        taken = dataclasses.replace(running, lease_owner="b")
        self.assertEqual("vmmonitor.recovery.updated", told(running, taken).event_type)
        renewed = dataclasses.replace(running, lease_until=9)
        self.assertIsNone(told(running, renewed))


class TestPriorities(unittest.TestCase):
    def priorities(self, severity):
        return {
            state
            for state in states.INCIDENT_TRANSITIONS
            if told(None, incident(state=state, severity=severity)).priority == payloads.ERROR
        }

    def test_a_grave_one_is_an_error_while_it_lasts(self):
        expected = {
            IncidentState.UNHANDLED,
            IncidentState.HELD,
            IncidentState.RECOVERING,
            IncidentState.UNRECOVERED,
        }
        self.assertEqual(expected, self.priorities(events.CRITICAL))

    def test_a_lesser_one_is_none_unless_it_could_not_be_recovered(self):
        for severity in (events.INFO, events.WARNING):
            self.assertEqual({IncidentState.UNRECOVERED}, self.priorities(severity))

    def test_only_a_failed_attempt_is_an_error(self):
        loud = {
            state
            for state in states.RECOVERY_TRANSITIONS
            if told(None, recovery(state=state)).priority == payloads.ERROR
        }
        self.assertEqual({RecoveryState.FAILED}, loud)


class TestPayloads(unittest.TestCase):
    def test_a_recovery_tells_whose_instance_it_is(self):
        data = told(None, recovery()).payload[DATA]
        self.assertEqual(
            ("web-1", samples.WEB.project_id), (data["instance_name"], data["project_id"])
        )

    def test_each_has_an_id_of_its_own(self):
        one, other = (told(None, incident()).payload[DATA] for _ in range(2))
        self.assertNotEqual(one["notification_id"], other["notification_id"])

    def test_a_host_has_no_instance(self):
        host = incident(kind="host", instance=Instance(uuid=""), cause="agent.late")
        found = payloads.notification(
            Change(before=None, after=host, at=samples.NOON), host.instance
        )
        jsonschema.validate(found.payload, payloads.SCHEMAS["IncidentPayload"])
        self.assertEqual(
            ("host", ""), (found.payload[DATA]["kind"], found.payload[DATA]["instance_uuid"])
        )

    def test_sentences_are_cut(self):
        for found, key in (
            (told(None, incident(reason="x" * 100_000)), "reason"),
            (told(None, recovery(message="x" * 100_000)), "message"),
        ):
            self.assertEqual(payloads.SENTENCE_LENGTH, len(found.payload[DATA][key]))


class TestTimes(unittest.TestCase):
    def test_iso(self):
        self.assertEqual("2026-11-22T12:00:00.000001Z", payloads.iso(samples.NOON + 1))

    def test_what_did_not_happen(self):
        self.assertEqual([None, None], [payloads.iso(None), payloads.iso(0)])

    def test_what_no_calendar_holds(self):
        self.assertEqual("9999-12-31T23:59:59.999999Z", payloads.iso(2**63 - 1))
        self.assertEqual("0001-01-01T00:00:00.000000Z", payloads.iso(-(2**63)))
