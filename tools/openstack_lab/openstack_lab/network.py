# SPDX-License-Identifier: Apache-2.0
"""Stands in for neutron: ``network.py PORT``.

nova-api asks for ports and security groups whenever it shows a server, also one without any
network. Here every collection is empty, and there is no extension.
"""

import json
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

RESOURCE = re.compile(r"/v2\.0/([a-z-]+)(?:/([^?/]+))?")
VERSION = {"id": "v2.0", "status": "CURRENT", "links": [{"rel": "self", "href": "/v2.0"}]}
MISSING = {"NeutronError": {"type": "NotFound", "message": "the lab has no network", "detail": ""}}


class Answer(BaseHTTPRequestHandler):
    """Answers one request."""

    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        code, content = self._content()
        body = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = _answer

    def _content(self) -> tuple[int, dict[str, Any]]:
        found = RESOURCE.match(self.path)
        if not found:
            return 200, {"versions": [VERSION]}
        if self.command != "GET" or found[2]:
            return 404, MISSING
        return 200, {found[1].replace("-", "_"): []}


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Answer).serve_forever()
