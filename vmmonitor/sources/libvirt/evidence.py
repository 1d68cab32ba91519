# SPDX-License-Identifier: Apache-2.0
"""Captures evidence of one instance: its screen, its logs, what libvirt knows of its troubles.

Each capture is a call in a thread of its own: a libvirt, a QEMU or a file system that hangs costs
that thread, of which there are few, and never an event.
"""

import contextlib
import dataclasses
import functools
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

import libvirt
from oslo_config import cfg
from oslo_log import log

from vmmonitor.model import evidence
from vmmonitor.model.event import Event
from vmmonitor.model.evidence import Item
from vmmonitor.model.instance import Seen
from vmmonitor.sources import masking, text_tail
from vmmonitor.sources.libvirt import decode, metadata, screenshot, statistics
from vmmonitor.sources.libvirt.connection import EVENT_LOOP, connect, ignore_unsupported
from vmmonitor.sources.text_tail import Calls, CaptureUnavailable

LOG = log.getLogger(__name__)

#: Calls under way at most, those that hang among them.
CALLS = 4
#: Bytes of a screenshot as QEMU gives it; what it becomes is held to ``[evidence] max_bytes``.
RAW_SCREEN = 16 * 1024 * 1024
CHUNK = 262_120
#: Bytes of a text: some hundred lines, which are masked in some 20 ms.
TEXT = 65536
SYSTEM_LOGS = "/var/log/libvirt/qemu"
#: virDomainDiskErrorCode.
DISK_ERRORS = ("none", "unspecified", "no_space")
#: How libvirt writes a guest's own words on its panic into QEMU's log.
PANIC_LINE = re.compile(r"\bpanic\b", re.IGNORECASE)
PANIC_LINES = 50


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class CaptureSubject:
    """What is to be captured of.

    :param seen: the instance as it was last seen; None if nobody has.
    """

    event: Event
    seen: Seen | None

    @property
    def uuid(self) -> str:
        """The instance's, and its domain's."""
        return self.event.instance.uuid

    @property
    def domain_name(self) -> str:
        """The domain's name, as far as anybody has told it."""
        seen = self.seen.instance.hypervisor_name if self.seen else ""
        return self.event.instance.hypervisor_name or seen


class LibvirtCapturer:
    """Captures what is asked for on this host."""

    def __init__(self, conf: cfg.ConfigOpts, stats_wanted: Callable[[], bool]):
        """Keep what is needed; connect to nothing yet.

        :param stats_wanted: whether statistics are to be remembered at the moment.
        """
        self._conf = conf
        self._calls = Calls(CALLS)
        self._statistics = statistics.StatisticsHistory(conf, Calls(1), stats_wanted)
        self._known: Mapping[str, Callable[[CaptureSubject], bytes]] = {
            evidence.SCREENSHOT: self._screenshot,
            evidence.PANIC: self._panic,
            evidence.DISK_ERRORS: self._disk_errors,
            evidence.STATS: self._stats,
            evidence.CONSOLE: self._console,
            evidence.QEMU_LOG: self._qemu_log,
        }

    def start(self) -> None:
        """Begin to remember statistics."""
        self._statistics.start()

    def stop(self, timeout: float) -> None:
        """Remember no more; at most ``timeout`` seconds."""
        self._statistics.stop(timeout)

    def take(self, event: Event, seen: Seen | None, kinds: Sequence[str]) -> Iterator[Item]:
        """Yield an item for each kind, in their order; what cannot be captured says why.

        :param seen: the instance as it was last seen; None if nobody has.
        """
        subject = CaptureSubject(event=event, seen=seen)
        for kind in kinds:
            content, message = self._take(kind, subject)
            if len(content) > self._conf.evidence.max_bytes:
                message = f"{len(content)} bytes are more than [evidence] max_bytes"
                content = b""
            at = time.time_ns() // 1000
            yield Item(kind=kind, captured_at=at, content=content, message=message[:1000])

    def _take(self, kind: str, subject: CaptureSubject) -> tuple[bytes, str]:
        """Return the content, or why there is none."""
        capture = functools.partial(self._known[kind], subject)
        timeout = self._conf.evidence.timeout
        try:
            return self._calls.call(f"evidence-{kind}", capture, timeout), ""
        except (CaptureUnavailable, screenshot.InvalidScreenshot) as error:
            return b"", str(error)
        except libvirt.libvirtError as error:
            return b"", f"libvirt: {decode.plain(str(error))}"
        except Exception as error:
            LOG.exception("Capturing %s of instance %s failed", kind, subject.uuid)
            return b"", f"{type(error).__name__}: {error}"

    # -- what libvirt tells --------------------------------------------------------------------
    @contextlib.contextmanager
    def _domain(self, subject: CaptureSubject, read_only: bool) -> Iterator[libvirt.virDomain]:
        options = self._conf.libvirt
        with EVENT_LOOP.running(), contextlib.closing(connect(options, read_only)) as opened:
            yield opened.lookupByUUIDString(subject.uuid)

    def _screenshot(self, subject: CaptureSubject) -> bytes:
        # libvirt lets nobody see a screen who may not write.
        with self._domain(subject, read_only=False) as domain:
            stream = domain.connect().newStream(0)
            domain.screenshot(stream, 0)
            return screenshot.png(_received(stream))

    def _disk_errors(self, subject: CaptureSubject) -> bytes:
        with self._domain(subject, self._conf.libvirt.read_only) as domain:
            found = domain.diskErrors()
        return _json({disk: decode.word(DISK_ERRORS, number) for disk, number in found.items()})

    def _panic(self, subject: CaptureSubject) -> bytes:
        event = subject.event
        told: dict[str, Any] = {
            "cause": event.cause,
            "told": {
                name: value
                for name, value in event.attributes.items()
                if name != evidence.ATTRIBUTE
            },
            "log": [],
        }
        with contextlib.suppress(CaptureUnavailable):
            lines = self._log_of(subject).splitlines()
            told["log"] = [line for line in lines if PANIC_LINE.search(line)][-PANIC_LINES:]
        try:
            with self._domain(subject, self._conf.libvirt.read_only) as domain:
                told["state"], told["reason"] = decode.state(*domain.state())
                with ignore_unsupported():
                    told["messages"] = decode.plain(domain.messages())
        except libvirt.libvirtError as error:
            told["state"], told["reason"] = "absent", decode.plain(str(error))
        return _json(told)

    def _stats(self, subject: CaptureSubject) -> bytes:
        samples = self._statistics.of(subject.uuid)
        before = [one for one in samples if one["at"] <= subject.event.occurred_at]
        with contextlib.suppress(libvirt.libvirtError):
            samples.append(self._sample(subject))
        if not samples:
            raise CaptureUnavailable(
                "nobody has looked at its statistics, and it does not run now"
            )
        return _json({"before": len(before), "samples": samples})

    def _sample(self, subject: CaptureSubject) -> dict[str, Any]:
        with self._domain(subject, self._conf.libvirt.read_only) as domain:
            at = time.time_ns() // 1000
            [(_, said)] = domain.connect().domainListGetStats(
                [domain], statistics.WHAT, libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
            )
            return statistics.sample(at, said)

    # -- files ---------------------------------------------------------------------------------
    def _console(self, subject: CaptureSubject) -> bytes:
        path = console_log(subject.seen.definition if subject.seen else "")
        return text_tail.fitted(masking.mask(text_tail.tail(path, TEXT)), self._text_bytes())

    def _qemu_log(self, subject: CaptureSubject) -> bytes:
        return text_tail.fitted(self._log_of(subject), self._text_bytes())

    def _text_bytes(self) -> int:
        return min(TEXT, self._conf.evidence.max_bytes)

    def _log_of(self, subject: CaptureSubject) -> str:
        options = self._conf.evidence
        directory = options.qemu_log_directory or log_directory(self._conf.libvirt.uri)
        path = os.path.join(directory, log_name(subject.domain_name))
        return masking.mask_log(text_tail.tail(path, TEXT))


def console_log(definition: str) -> str:
    """Return the file into which an instance's console is written.

    :param definition: the domain's XML, which the host's administrator, or nova, wrote.
    :raises Missing: it names none.
    """
    root = metadata.parsed(definition) if definition else None
    if root is None:
        raise CaptureUnavailable("the instance's definition is not known")
    for port in (*root.iterfind("devices/console"), *root.iterfind("devices/serial")):
        path = _file_of(port)
        if os.path.isabs(path):
            return path
    raise CaptureUnavailable("the instance's definition names no file for its console")


def _file_of(port: ElementTree.Element) -> str:
    found = port.find("log")
    if found is not None and found.get("file"):
        return found.get("file", "")
    source = port.find("source")
    return source.get("path", "") if source is not None and port.get("type") == "file" else ""


def log_name(domain_name: str) -> str:
    """Return the name of the file that is QEMU's log of a domain.

    :raises Missing: the domain's name is not known, or cannot be part of a file's name.
    """
    if not domain_name:
        raise CaptureUnavailable("the instance's name on its host is not known")
    if "/" in domain_name or "\0" in domain_name:
        raise CaptureUnavailable("the instance's name on its host cannot be that of a file")
    return f"{domain_name}.log"


def log_directory(uri: str) -> str:
    """Return where a libvirt has QEMU's logs, by its address.

    :param uri: ``[libvirt] uri``.
    """
    if not uri.partition("?")[0].endswith("/session"):
        return SYSTEM_LOGS
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(cache, "libvirt", "qemu", "log")


def _received(stream: libvirt.virStream) -> bytes:
    """Read a stream to its end.

    :raises Missing: it is too long.
    """
    data = bytearray()
    while chunk := stream.recv(CHUNK):
        data += chunk
        if len(data) > RAW_SCREEN:
            stream.abort()
            raise CaptureUnavailable(f"the screenshot is larger than {RAW_SCREEN} bytes")
    stream.finish()
    return bytes(data)


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1, ensure_ascii=False).encode(errors="replace") + b"\n"
