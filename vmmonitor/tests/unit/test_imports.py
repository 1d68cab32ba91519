# SPDX-License-Identifier: Apache-2.0
"""Who may import whom: the table of doc/source/contributor/architecture.rst, held.

Imports inside functions and under TYPE_CHECKING count like any other.
"""

import ast
import graphlib
import pathlib
import sys
import unittest
from collections.abc import Iterator

import vmmonitor

PACKAGE = pathlib.Path(vmmonitor.__file__).parent

#: room -> the other rooms that it may import; cmd and wsgi wire everything together.
MAY_IMPORT: dict[str, set[str]] = {
    "version": set(),
    "native_threads": set(),
    "plugins": {"model"},
    "text": set(),
    "log_setup": set(),
    "batch_queue": set(),
    "bounded_call": set(),
    "periodic": {"model"},
    "standard_output": set(),
    "model": set(),
    "conf": {"model", "version"},
    "policies": set(),
    "client": set(),
    "rules": {"model"},
    "sources": {"model", "rpc"},
    "rpc": {"model", "version", "native_threads"},
    "db": {"model"},
    "openstack": {"model"},
    "expectation": {"model", "openstack"},
    "drivers": {"model", "openstack", "version"},
    "agent": {"model", "rules", "sources", "rpc", "version", "native_threads", "plugins"},
    "engine": {
        *("model", "rules", "rpc", "db", "expectation", "drivers", "version"),
        *("native_threads", "plugins"),
    },
    "api": {"model", "rules", "db", "policies", "version"},
    "testing": {"model"},
}
#: Building blocks that every room may import, except the nouns and the clients.
SHARED = {"text", "batch_queue", "bounded_call", "periodic"}
for _room in MAY_IMPORT.keys() - SHARED - {"version", "model", "conf", "client"}:
    MAY_IMPORT[_room] |= SHARED
MAY_IMPORT["client"] |= {"text", "standard_output"}
MAY_IMPORT["cmd"] = MAY_IMPORT["wsgi"] = set(MAY_IMPORT)

#: package or module of the engine -> the others that it may import. ``engine.service`` builds an
#: engine from all of them.
ENGINE_MAY_IMPORT: dict[str, set[str]] = {
    "clock_steps": set(),
    "incidents": set(),
    "ingest": {"incidents"},
    "admission": {"incidents"},
    "reconcile": {"ingest"},
    "recovery": {"incidents", "admission", "reconcile", "clock_steps"},
    "upkeep": {"incidents", "ingest", "clock_steps"},
    "endpoint": {"ingest"},
}
ENGINE_MAY_IMPORT["service"] = set(ENGINE_MAY_IMPORT)

#: package of somebody else -> where in vmmonitor it may be imported.
HTTP_ROOMS = ("openstack", "drivers", "expectation", "client")
ONLY_IN: dict[str, tuple[str, ...]] = {
    "libvirt": ("sources.libvirt", "testing"),
    "fixtures": ("testing",),
    "libvirt_qemu": ("sources.libvirt",),
    "oslo_messaging": ("rpc",),
    "sqlalchemy": ("db",),
    "oslo_db": ("db",),
    "alembic": ("db",),
    "requests": HTTP_ROOMS,
    "urllib3": HTTP_ROOMS,
    "http.client": HTTP_ROOMS,
    "urllib.request": HTTP_ROOMS,
    "keystoneauth1": HTTP_ROOMS,
    "openstack": HTTP_ROOMS,
    "osc_lib": ("client",),
    "cliff": ("client",),
    "oslo_policy": ("policies", "api"),
    "eventlet": (),
    "greenlet": (),
}

#: What a noun has no use for: a clock, chance, or the world outside.
IMPURE = {"time", "datetime", "random", "uuid", "os", "io", "pathlib", "socket", "subprocess"}
IMPURE |= {"threading", "logging", "sqlite3", "asyncio"}


def name_of(path: pathlib.Path) -> str:
    """Return a file's module name without the leading ``vmmonitor.``."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def sources() -> Iterator[tuple[str, pathlib.Path, ast.AST]]:
    """Yield (module name, file, syntax tree) of everything but the tests."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = name_of(path)
        if name and name.split(".")[0] != "tests":
            yield name, path, ast.parse(path.read_text())


def imported(path: pathlib.Path, tree: ast.AST) -> Iterator[str]:
    """Yield the full name of everything that a file imports, at whatever place in it."""
    package = ("vmmonitor", *path.relative_to(PACKAGE).parent.parts)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) + 1 - node.level]) if node.level else ""
            origin = ".".join(filter(None, (base, node.module)))
            yield from (f"{origin}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and _called(node) in ("import_module", "__import__"):
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield first.value


def _called(node: ast.Call) -> str:
    return str(getattr(node.func, "attr", getattr(node.func, "id", "")))


def inside(name: str, places: tuple[str, ...]) -> bool:
    """Tell whether a dotted name is one of the places, or within one."""
    return any(name == place or name.startswith(place + ".") for place in places)


class TestImports(unittest.TestCase):
    def test_every_room_is_in_the_table(self):
        rooms = {name.split(".")[0] for name, _, _ in sources()}
        self.assertEqual(set(), rooms - set(MAY_IMPORT))

    def test_the_table_has_no_circle(self):
        graphlib.TopologicalSorter(MAY_IMPORT | {"cmd": set(), "wsgi": set()}).prepare()

    def test_rooms_import_only_what_the_table_allows(self):
        wrong = []
        for name, path, tree in sources():
            room = name.split(".")[0]
            for target in imported(path, tree):
                parts = target.split(".")
                if parts[0] != "vmmonitor" or len(parts) == 1 or parts[1] == room:
                    continue
                if parts[1] not in MAY_IMPORT[room]:
                    wrong.append(f"{name} imports {target}")
        self.assertEqual([], wrong)

    def test_engine_packages_are_all_in_the_table(self):
        names = [name.split(".") for name, _, _ in sources()]
        found = {name[1] for name in names if name[0] == "engine" and len(name) > 1}
        self.assertEqual(set(ENGINE_MAY_IMPORT), found)

    def test_engine_table_has_no_circle(self):
        graphlib.TopologicalSorter(ENGINE_MAY_IMPORT).prepare()

    def test_engine_packages_import_only_what_the_table_allows(self):
        wrong = []
        for name, path, tree in sources():
            package, _, module = name.partition(".")
            if package != "engine" or not module:
                continue
            own = module.split(".")[0]
            for target in imported(path, tree):
                parts = target.split(".")
                if parts[:2] != ["vmmonitor", "engine"] or parts[2] == own:
                    continue
                if parts[2] not in ENGINE_MAY_IMPORT[own]:
                    wrong.append(f"{name} imports {target}")
        self.assertEqual([], wrong)

    def test_packages_of_others_are_imported_only_where_they_belong(self):
        wrong = []
        for name, path, tree in sources():
            for target in imported(path, tree):
                for package, places in ONLY_IN.items():
                    if not inside(target, (package,)) or inside(name, places):
                        continue
                    if package in ("eventlet", "greenlet") or name.split(".")[0] != "cmd":
                        wrong.append(f"{name} imports {target}")
        self.assertEqual([], wrong)

    def test_the_nouns_know_neither_clock_nor_world(self):
        wrong = []
        for name, path, tree in sources():
            if name.split(".")[0] != "model":
                continue
            for target in imported(path, tree):
                top = target.split(".")[0]
                if top == "vmmonitor":
                    continue
                if top in IMPURE or top not in sys.stdlib_module_names:
                    wrong.append(f"{name} imports {target}")
        self.assertEqual([], wrong)

    def test_only_cmd_and_wsgi_make_a_configuration(self):
        """``conf.new`` is out of the others' reach by the table above."""
        wrong = []
        for name, _, tree in sources():
            for node in ast.walk(tree):
                makes = isinstance(node, ast.Call) and _called(node) == "ConfigOpts"
                if makes and name.split(".")[0] not in ("cmd", "wsgi", "conf"):
                    wrong.append(f"{name}:{node.lineno} makes a ConfigOpts")
                if isinstance(node, ast.Attribute) and ast.unparse(node) == "cfg.CONF":
                    wrong.append(f"{name}:{node.lineno} uses the global CONF")
        self.assertEqual([], wrong)


class TestReading(unittest.TestCase):
    """The reader itself sees every way to import."""

    def read(self, code: str) -> set[str]:
        return set(imported(PACKAGE / "agent" / "spool.py", ast.parse(code)))

    def test_plain_and_within_a_function(self):
        self.assertEqual({"libvirt"}, self.read("def f():\n    import libvirt"))

    def test_from(self):
        self.assertEqual({"vmmonitor.db"}, self.read("from vmmonitor import db"))

    def test_relative(self):
        self.assertEqual({"vmmonitor.agent.x"}, self.read("from . import x"))
        self.assertEqual({"vmmonitor.db.x"}, self.read("from ..db import x"))

    def test_by_name(self):
        code = "import importlib\nimportlib.import_module('libvirt')"
        self.assertEqual({"importlib", "libvirt"}, self.read(code))
