# SPDX-License-Identifier: Apache-2.0
"""The API reference: its examples are real answers, and nothing is left out.

``VMMONITOR_WRITE_SAMPLES=1 stestr run --test-path ./vmmonitor/tests/functional test_reference``
writes the examples anew.
"""

import json
import os
import pathlib
import re

import testtools
import webob

import vmmonitor
from vmmonitor.api import errors, routes
from vmmonitor.api.schemas import agent, event, incident, operator_request, recovery, silence
from vmmonitor.tests.fixtures import api, sample

SOURCE = pathlib.Path(vmmonitor.__file__).parents[1] / "api-ref" / "source"
SAMPLES = SOURCE / "samples"

#: file in samples/ -> what is asked.
ASKED = {
    "versions": "/",
    "version": "/v1",
    "events": "/v1/events?limit=1&severity=critical",
    "event": f"/v1/events/{sample.EVENTS[0].event.event_id}",
    "evidence": f"/v1/events/{sample.EVENTS[2].event.event_id}/evidence",
    "incidents": "/v1/incidents?open=false",
    "incident": f"/v1/incidents/{sample.CRASH.incident_id}",
    "recoveries": "/v1/recoveries",
    "recovery": f"/v1/recoveries/{sample.RESTART.recovery_id}",
    "requests": "/v1/requests",
    "request": f"/v1/requests/{sample.HOLD.request_id}",
    "silences": "/v1/silences",
    "silence": f"/v1/silences/{sample.SILENCE.silence_id}",
    "agents": "/v1/agents",
    "agent": "/v1/agents/compute-1",
    "error": "/v1/agents?colour=red",
}
LISTS = {
    "events": event.INDEX,
    "incidents": incident.INDEX,
    "recoveries": recovery.INDEX,
    "requests": operator_request.INDEX,
    "silences": silence.INDEX,
    "agents": agent.INDEX,
}


def page(name: str) -> str:
    """Return a part of the reference."""
    return (SOURCE / f"{name}.inc").read_text()


class TestExamples(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.application = self.useFixture(api.Api()).application

    def answer(self, url: str) -> str:
        request = webob.Request.blank(url, {"REMOTE_ADDR": "127.0.0.1"})
        request.host = "127.0.0.1:15869"
        body = json.dumps(request.get_response(self.application).json, indent=4)
        return re.sub('"req-[-0-9a-f]{36}"', f'"req-{sample.WEB.uuid}"', body) + "\n"

    def test_each_is_a_real_answer(self):
        for name, url in ASKED.items():
            answer = self.answer(url)
            if os.environ.get("VMMONITOR_WRITE_SAMPLES"):
                (SAMPLES / f"{name}.json").write_text(answer)
            self.assertEqual((SAMPLES / f"{name}.json").read_text(), answer, name)

    def test_each_is_shown(self):
        text = "".join(path.read_text() for path in SOURCE.glob("*.inc"))
        shown = re.findall(r"literalinclude:: samples/(\w+)\.json", text)
        self.assertEqual(sorted(ASKED), sorted(shown))
        self.assertEqual(sorted(ASKED), sorted(path.stem for path in SAMPLES.iterdir()))


class TestCompleteness(testtools.TestCase):
    def test_every_url_is_told(self):
        text = "".join(path.read_text() for path in SOURCE.glob("*.inc"))
        told = set(re.findall("^``([A-Z]+ /.*)``$", text, re.MULTILINE))
        table = routes.ROUTES.items()
        served = {f"{method} {url}" for url, methods in table for method in methods}
        self.assertEqual(served, told)

    def test_every_parameter_is_told(self):
        for name, schema in LISTS.items():
            for parameter in schema["properties"]:
                self.assertIn(f"``{parameter}``", page(name), name)

    def test_every_sort_key_is_told(self):
        for name, schema in LISTS.items():
            keys = re.findall("``(.*?)``", page(name).partition("Sort keys:")[2].split("\n\n")[0])
            pattern = schema["properties"]["sort"]["items"]["pattern"]
            self.assertEqual(re.search(r"[a-z_|]+", pattern)[0].split("|"), keys, name)

    def test_every_state_is_told(self):
        for name in ("incidents", "recoveries", "requests", "silences", "agents"):
            for state in LISTS[name]["properties"]["state"]["items"]["enum"]:
                self.assertIn(f"``{state}``", page(name), name)

    def test_every_code_is_told(self):
        codes = {code for name, code in vars(errors).items() if name.isupper() and name != "LOG"}
        told = set(re.findall(r"^``(vmmonitor\.[a-z._]+)``", page("general"), re.MULTILINE))
        self.assertEqual(codes, told)
