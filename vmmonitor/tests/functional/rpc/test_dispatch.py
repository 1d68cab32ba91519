# SPDX-License-Identifier: Apache-2.0
"""Only exposed methods can be called, and errors go back as one sentence."""

import json
import types

import oslo_messaging
import testtools
from oslo_messaging._drivers import common

from vmmonitor.model.errors import Conflict, InvalidMessage, Retriable
from vmmonitor.rpc.dispatch import GuardedDispatcher, exposed
from vmmonitor.rpc.guard import UNKNOWN_CALLER, OpenGuard


class Endpoint:
    target = oslo_messaging.Target(version="1.0")
    error: Exception | None = None

    @exposed
    def store(self, context, form):
        self.context = context
        if self.error:
            try:
                raise KeyError("INSERT INTO secrets")
            except KeyError as cause:
                raise self.error from cause
        return form

    def delete(self, context, form):
        raise AssertionError("must not be called")

    def _private(self, context, form):
        raise AssertionError("must not be called")


class DispatchTest(testtools.TestCase):
    def setUp(self):
        super().setUp()
        self.endpoint = Endpoint()

    def dispatch(self, method="store", version="1.0"):
        message = {"method": method, "args": {"form": {"host": "a"}}, "version": version}
        incoming = types.SimpleNamespace(message=message, ctxt={"host": "a"}, client_timeout=None)
        return GuardedDispatcher(self.endpoint, OpenGuard()).dispatch(incoming)

    def failure(self, **call) -> dict:
        """Return the error as the caller receives it."""
        error = self.assertRaises(oslo_messaging.ExpectedException, self.dispatch, **call)
        sent = json.loads(common.serialize_remote_exception(error.exc_info))
        text = json.dumps(sent)
        for private in ("Traceback", ".py", "INSERT", "\\n  File"):
            self.assertNotIn(private, text)
        return sent

    def test_context_of_an_endpoint_is_the_caller_and_not_the_context_of_the_message(self):
        self.assertEqual({"host": "a"}, self.dispatch())
        self.assertEqual(UNKNOWN_CALLER, self.endpoint.context)

    def test_method_that_is_not_exposed_cannot_be_called(self):
        for method in ("delete", "_private", "target", "__init__", "missing"):
            self.assertEqual("NoSuchMethod", self.failure(method=method)["class"])

    def test_version_that_is_not_supported_is_named(self):
        self.assertEqual("UnsupportedVersion", self.failure(version="2.0")["class"])

    def test_error_goes_back_as_one_sentence(self):
        internal = "internal error; the log of the receiver has the details"
        for error, kind, sentence in (
            (InvalidMessage("host is missing"), "InvalidMessage", "host is missing"),
            (Retriable("it is busy\n[SQL: INSERT]"), "Retriable", "it is busy"),
            (Conflict("changed"), "Retriable", "changed"),
            (ValueError("INSERT INTO secrets"), "Retriable", internal),
        ):
            self.endpoint.error = error
            sent = self.failure()
            self.assertEqual((kind, sentence), (sent["class"], sent["message"]))
