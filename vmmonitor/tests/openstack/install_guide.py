# SPDX-License-Identifier: Apache-2.0
"""Read the install guide, and run its commands as if on the hosts that it names."""

import dataclasses
import os
import pathlib
import re
import shutil
import subprocess
import textwrap
from collections.abc import Mapping, Sequence

import fixtures

from vmmonitor import version
from vmmonitor.testing.processes import Processes

BLOCK = re.compile(
    r"^(?P<indent> *)\.\. code-block:: (?P<language>\w+)\n"
    r"(?:(?P=indent)   :caption: (?P<caption>\S+)\n)?\n"
    r"(?P<body>(?:(?P=indent)   .*\n|\n)+)",
    re.MULTILINE,
)
HEADING = re.compile(r"^(?P<title>\S.*)\n[=]{4,}$", re.MULTILINE)
COMMAND_S = 900.0

#: Stands for systemd, which is not the first process where the tests run.
SYSTEMCTL = r"""#!/bin/sh -e
state=@STATE@
cd /
stop() {
    [ -e "$state/$1.pid" ] || return 0
    kill "$(cat "$state/$1.pid")"
    rm "$state/$1.pid"
    sleep 2
}
start() {
    unit=/etc/systemd/system/$1.service
    value() { sed -n "s/^$1=//p" "$unit"; }
    setsid setpriv --reuid="$(value User)" --regid="$(value User)" --init-groups --no-new-privs \
        env -i PATH=/usr/bin:/bin HOME=/ $(value Environment) $(value ExecStart) \
        >>"$state/$1.log" 2>&1 </dev/null &
    echo $! >"$state/$1.pid"
}
verb=$1
shift
for unit in "$@"; do
    case $verb:$unit in
        *:--now) ;;
        enable:*) grep -q WantedBy= "/etc/systemd/system/$unit.service"; start "$unit" ;;
        restart:*) stop "$unit"; start "$unit" ;;
        *) echo "systemctl $verb $unit: not known here" >&2; exit 1 ;;
    esac
done
"""
#: The user gets an id that is known outside of the host too: the lab's libvirtd looks up the name
#: of its client, and reads the machine's own accounts.
USERADD = """#!/bin/sh -e
for name in "$@"; do :; done
groupadd --non-unique --gid 65534 "$name"
exec /usr/sbin/useradd --non-unique --uid 65534 --gid 65534 "$@"
"""
#: Stands for apt-get: the packages are installed already, if bindep.txt lists them.
APT_GET = """#!/bin/sh -e
for word in "$@"; do
    case $word in
        install | -*) ;;
        git | python3-venv) ;;
        *) grep "^$word " @CHECKOUT@/bindep.txt || { echo "not in bindep.txt: $word"; exit 1; } ;;
    esac
done
"""


@dataclasses.dataclass(frozen=True)
class Block:
    """A code block of the guide.

    :param section: heading of its section.
    :param caption: path of the file that it is the content of; empty if there is none.
    """

    section: str
    language: str
    caption: str
    text: str


def blocks(page: pathlib.Path) -> list[Block]:
    """Return the code blocks of a page, in order."""
    text = page.read_text()
    headings = [(found.start(), found["title"]) for found in HEADING.finditer(text)]
    found = []
    for block in BLOCK.finditer(text):
        section = [title for start, title in headings if start < block.start()][-1]
        body = textwrap.dedent(block["body"]).strip("\n") + "\n"
        found.append(Block(section, block["language"], block["caption"] or "", body))
    return found


def commands(text: str) -> list[tuple[str, str]]:
    """Return (prompt, command) of each command of a console block.

    :param text: lines that begin with a prompt, their continuations, and output.
    """
    found: list[tuple[str, str]] = []
    continued = False
    for line in text.splitlines():
        if continued:
            prompt, command = found.pop()
            found.append((prompt, f"{command}\n{line}"))
        elif line[:2] in ("# ", "$ "):
            found.append((line[0], line[2:]))
        continued = line.endswith("\\")
    return found


class GuideHost(fixtures.Fixture):
    """A host of the guide: its own /etc and state, in a mount namespace of its own.

    :param name: as in the guide.
    :param installed: directory that is /opt/vmmonitor there.
    :param mounts: further directories: path there -> path here.
    :param programs: scripts that stand for programs of the host: name -> text.
    """

    def __init__(
        self,
        name: str,
        installed: str,
        mounts: Mapping[str, str],
        programs: Mapping[str, str],
    ):
        super().__init__()
        self.name = name
        self._mounts = {"/opt/vmmonitor": installed, **mounts}
        self._programs = programs
        self._variables: dict[str, str] = {}
        self._number = 0

    def _setUp(self) -> None:
        self._processes = self.useFixture(Processes(unprivileged=False))
        self.path = pathlib.Path(self._processes.path)
        self.path.chmod(0o755)
        for name, text in self._programs.items():
            program = self.path / "bin" / name
            program.parent.mkdir(exist_ok=True)
            program.write_text(text.replace("@STATE@", str(self.path)))
            program.chmod(0o755)
        (self.path / "state").mkdir()
        shutil.copytree("/etc", self.path / "etc", symlinks=True)
        with (self.path / "etc" / "hosts").open("a") as hosts:
            hosts.write("127.0.0.1 controller compute1\n")
        mounts = {
            "/etc": str(self.path / "etc"),
            "/var/lib/vmmonitor": str(self.path / "state"),
            **self._mounts,
        }
        lines = ["mount --make-rprivate /"]
        for there, here in mounts.items():
            if not os.path.exists(there):
                os.makedirs(there)
                self.addCleanup(os.rmdir, there)
            lines.append(f"mount --bind {here} {there}")
        lines += ["groupadd --force libvirt", "echo ready", "exec sleep infinity"]
        script = "\n".join(lines)
        self._holder = self._processes.start(
            ["/usr/bin/unshare", "--mount", "sh", "-ec", script], log="namespace"
        )
        self._await_namespace()

    def _await_namespace(self) -> None:
        for _ in range(500):
            text = (self.path / "namespace").read_text()
            if "ready" in text:
                return
            if self._processes.wait(self._holder, 0.05) is not None:
                break
        raise RuntimeError(f"host {self.name} cannot be made: {text}")

    def run(self, command: str, directory: str = "/", timeout: float = COMMAND_S) -> str:
        """Run a shell command on the host and return its output.

        :raises RuntimeError: it failed; the message has its output.
        """
        if export := re.fullmatch(r"export (\w+)=(\S+)", command):
            self._variables[export[1]] = export[2]
            return ""
        self._number += 1
        log = f"{self._number}.log"
        argv = ["/usr/bin/nsenter", "--mount", "--root", "--target", str(self._holder)]
        argv += [f"--wd={directory}", "sh", "-ec", command]
        path = f"{self.path}/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        known = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        known |= {"PATH": path, "PBR_VERSION": version.version_info.version_string()}
        pid = self._processes.start(argv, {**known, **self._variables}, log)
        status = self._processes.wait(pid, timeout)
        output = (self.path / log).read_text(errors="replace")
        if status != 0:
            raise RuntimeError(f"{self.name}: {command}: exit code {status}: {output[-3000:]}")
        return output

    def write(self, path: str, text: str, append: bool = False) -> None:
        """Write a file of the host."""
        inside = self.path / path.lstrip("/")
        inside.parent.mkdir(parents=True, exist_ok=True)
        # A link would lead out of the namespace.
        assert inside.resolve() == inside, inside
        with inside.open("a" if append else "w") as file:
            file.write(f"\n{text}" if append else text)

    def logs(self) -> dict[str, str]:
        """Return the end of the log of each service that was started."""
        return {log.stem: log.read_text()[-5000:] for log in self.path.glob("vmmonitor-*.log")}


def copy_of_checkout(checkout: pathlib.Path, to: pathlib.Path) -> None:
    """Copy the files of a checkout, without venvs and build results."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=checkout, check=True, capture_output=True, text=True)
    for name in filter(None, names.stdout.split("\0")):
        target = to / name
        if (checkout / name).exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(checkout / name, target, follow_symlinks=False)


def replaced(text: str, words: Sequence[tuple[str, str]]) -> str:
    """Return a text with names of the guide replaced by those of the lab, in order."""
    for guide, lab in words:
        text = text.replace(guide, lab)
    return text
