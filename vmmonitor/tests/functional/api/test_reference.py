# SPDX-License-Identifier: Apache-2.0
"""Compare the API reference with the API: its examples, URLs, parameters, fields and codes.

``VMMONITOR_WRITE_SAMPLES=1 stestr run --test-path ./vmmonitor/tests/functional test_reference``
records the examples again.
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

#: File in samples/ -> URL.
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
        self.api = self.useFixture(api.Api())

    def answer(self, url: str) -> str:
        environ = {"REMOTE_ADDR": "127.0.0.1", "SERVER_PORT": "15869"}
        request = webob.Request.blank(url, environ, headers={"X-Auth-Token": self.api.token})
        request.host = "127.0.0.1:15869"
        body = json.dumps(request.get_response(self.api.application).json, indent=4)
        return re.sub('"req-[-0-9a-f]{36}"', f'"req-{sample.WEB.uuid}"', body) + "\n"

    def test_samples_equal_responses(self):
        for name, url in ASKED.items():
            answer = self.answer(url)
            if os.environ.get("VMMONITOR_WRITE_SAMPLES"):
                (SAMPLES / f"{name}.json").write_text(answer)
            self.assertEqual((SAMPLES / f"{name}.json").read_text(), answer, name)

    def test_reference_shows_every_sample(self):
        text = "".join(path.read_text() for path in SOURCE.glob("*.inc"))
        shown = re.findall(r"literalinclude:: samples/(\w+)\.json", text)
        self.assertEqual(sorted(ASKED), sorted(shown))
        self.assertEqual(sorted(ASKED), sorted(path.stem for path in SAMPLES.iterdir()))


class TestCompleteness(testtools.TestCase):
    def test_reference_describes_every_url(self):
        text = "".join(path.read_text() for path in SOURCE.glob("*.inc"))
        described = set(re.findall("^``([A-Z]+ /.*)``$", text, re.MULTILINE))
        table = routes.ROUTES.items()
        served = {f"{method} {url}" for url, methods in table for method in methods}
        self.assertEqual(served, described)

    def test_reference_describes_every_parameter(self):
        for name, schema in LISTS.items():
            for parameter in schema["properties"]:
                self.assertIn(f"``{parameter}``", page(name), name)

    def test_reference_describes_every_sort_key(self):
        for name, schema in LISTS.items():
            keys = re.findall("``(.*?)``", page(name).partition("Sort keys:")[2].split("\n\n")[0])
            pattern = schema["properties"]["sort"]["items"]["pattern"]
            self.assertEqual(re.search(r"[a-z_|]+", pattern)[0].split("|"), keys, name)

    def test_reference_describes_every_state(self):
        for name in ("incidents", "recoveries", "requests", "silences", "agents"):
            for state in LISTS[name]["properties"]["state"]["items"]["enum"]:
                self.assertIn(f"``{state}``", page(name), name)

    def test_reference_describes_every_code(self):
        codes = {code for name, code in vars(errors).items() if name.isupper() and name != "LOG"}
        described = set(re.findall(r"^``(vmmonitor\.[a-z._]+)``", page("general"), re.MULTILINE))
        self.assertEqual(codes, described)

    def test_reference_describes_every_response_field(self):
        for name, pages in (
            ("event", "events"),
            ("evidence", "events"),
            ("incident", "incidents"),
            ("recovery", "recoveries"),
            ("request", "requests"),
            ("silence", "silences"),
            ("agent", "agents"),
            ("version", "versions"),
        ):
            sample_object = json.loads((SAMPLES / f"{name}.json").read_text())[name]
            [fields] = sample_object[:1] if isinstance(sample_object, list) else [sample_object]
            missing = [field for field in fields if f"   * - ``{field}``" not in page(pages)]
            self.assertEqual([], missing, name)
