# SPDX-License-Identifier: Apache-2.0
"""Operator requests from the command line to an engine and back."""

import logging
import threading

import fixtures

from vmmonitor.client import request as client
from vmmonitor.db import incidents, requests
from vmmonitor.engine.incidents.requests import OperatorRequests
from vmmonitor.engine.recovery.attempts import Attempts
from vmmonitor.model.incident import HoldReason
from vmmonitor.rules import defaults, policies
from vmmonitor.tests.fixtures import sample
from vmmonitor.tests.functional.client import base

FULL = sample.FULL.incident_id


class RequestCase(base.CommandTest):
    def setUp(self):
        super().setUp()
        database = self.api.database
        loaded = policies.load(defaults.path(defaults.RECOVERY_POLICIES))
        self.requests = OperatorRequests(database, Attempts(self.api.conf, loaded, database.now))

    def engine(self):
        """Start an engine; its log must not be mixed with the errors of the command."""
        log = logging.getLogger("vmmonitor.engine")
        self.addCleanup(setattr, log, "propagate", log.propagate)
        log.propagate = False
        over = threading.Event()

        def run():
            while not over.wait(0.05):
                self.requests.carry_out_due()

        thread = threading.Thread(target=run, name="engine", daemon=True)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(over.set)

    def incident(self):
        with self.api.database.reader() as tx:
            return incidents.get(tx, FULL)


class TestRequests(RequestCase):
    def test_hold_release_and_resolve_are_carried_out(self):
        self.engine()
        words = ("incident", "hold", FULL, "--for", "30m", "--comment", "enlarged", "--author")
        found = self.parsed(*words, "jane")
        self.assertEqual(("done", "held for 1800 s"), (found["state"], found["message"]))
        self.assertEqual(
            ("held", HoldReason.OPERATOR), (self.incident().state, self.incident().held_by)
        )
        self.assertIn("held by jane: enlarged", self.printed("incident", "show", FULL))
        self.assertIn("a verdict is requested now", self.printed("incident", "release", FULL))
        self.parsed("incident", "hold", FULL)
        self.parsed("incident", "resolve", FULL, "--comment", "all is well")
        self.assertEqual("resolved", self.incident().state)

    def test_refused_request_is_reported(self):
        self.engine()
        words = ("incident", "recover", FULL, "--policy", "nonsense")
        code, out, err = self.run_command(*words)
        self.assertEqual((1, ""), (code, out))
        self.assertIn("refused: policy nonsense is not in force or has no steps", err)
        code, _, err = self.run_command("recovery", "retry", sample.RESTART.recovery_id)
        self.assertEqual(1, code)
        self.assertIn("the incident is resolved: the instance runs again", err)
        code, _, err = self.run_command("recovery", "cancel", sample.RESTART.recovery_id)
        self.assertIn("the incident has no recovery in progress", err)

    def test_request_without_engine_is_queued(self):
        self.useFixture(fixtures.MockPatchObject(client, "TIMEOUT", 0.3))
        code, _, err = self.run_command("incident", "hold", FULL)
        self.assertEqual(1, code)
        self.assertIn("not done yet: no engine has processed it", err)
        found = self.parsed("incident", "recover", FULL, "--no-wait")
        self.assertEqual("requested", found["state"])
        with self.api.database.reader() as tx:
            self.assertEqual(2, len(requests.due(tx, 9)))

    def test_invalid_arguments_are_rejected(self):
        for words in (
            ("incident", "hold", FULL, "--for", "soon"),
            ("incident", "hold"),
            ("recovery", "retry"),
        ):
            self.assertRaises(SystemExit, self.run_command, *words)
        code, _, err = self.run_command("incident", "hold", "unknown-id")
        self.assertEqual(1, code)
        self.assertIn("unknown-id", err)

    def test_requests_are_listed_and_shown(self):
        (found,) = self.parsed("request", "list", "--kind", "hold", "--author", "jane")
        self.assertEqual(sample.HOLD.request_id, found["request_id"])
        self.assertIn("the disk is being enlarged", self.printed("request", "list", "--long"))
        found = self.parsed("request", "show", sample.HOLD.request_id)
        self.assertEqual({"seconds": 1800}, found["options"])
