# SPDX-License-Identifier: Apache-2.0
"""Captures evidence of one instance: screenshot, logs, statistics, errors that libvirt records.

Each capture is a bounded call. If libvirt, QEMU or a file system hangs, the capture occupies one
of a few threads, and events are not delayed.
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

from vmmonitor.bounded_call import BoundedCalls, CallUnfinished
from vmmonitor.model import evidence
from vmmonitor.model.event import Event
from vmmonitor.model.evidence import Item
from vmmonitor.model.instance import Seen
from vmmonitor.sources import masking, text_tail
from vmmonitor.sources.libvirt import decode, metadata, screenshot, statistics, tables
from vmmonitor.sources.libvirt.connection import EVENT_LOOP, connect, ignore_unsupported
from vmmonitor.sources.libvirt.statistics import SamplingRequest
from vmmonitor.sources.text_tail import CaptureUnavailable

LOG = log.getLogger(__name__)

#: Maximum number of captures in progress, hung ones included.
MAX_CAPTURES = 4
#: Maximum size, in bytes, of a screenshot as QEMU returns it; ``[evidence] max_bytes`` limits the
#: PNG file.
MAX_RAW_SCREENSHOT = 16 * 1024 * 1024
STREAM_CHUNK = 262_120
#: Maximum size, in bytes, of a text: some hundred lines, which are masked in about 20 ms.
MAX_TEXT_BYTES = 65536
SYSTEM_LOG_DIRECTORY = "/var/log/libvirt/qemu"
#: The lines that libvirt writes about a panic into the log of QEMU.
PANIC_LINE = re.compile(r"\bpanic\b", re.IGNORECASE)
MAX_PANIC_LINES = 50


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class CaptureSubject:
    """The event and the instance that evidence is about.

    :param seen: last known state of the instance; None if it is unknown.
    """

    event: Event
    seen: Seen | None

    @property
    def uuid(self) -> str:
        """UUID of the instance and of its domain."""
        return self.event.instance.uuid

    @property
    def domain_name(self) -> str:
        """Name of the domain; empty if it is unknown."""
        seen = self.seen.instance.hypervisor_name if self.seen else ""
        return self.event.instance.hypervisor_name or seen


class LibvirtCapturer:
    """Captures evidence on this host."""

    def __init__(self, conf: cfg.ConfigOpts, request: SamplingRequest):
        """Store the configuration; connect to nothing yet.

        :param request: decides whether statistics are sampled.
        """
        self._conf = conf
        self._calls = BoundedCalls(MAX_CAPTURES)
        self._statistics = statistics.StatisticsHistory(conf, request)
        self._captures: Mapping[str, Callable[[CaptureSubject], bytes]] = {
            evidence.SCREENSHOT: self._capture_screenshot,
            evidence.PANIC: self._capture_panic,
            evidence.DISK_ERRORS: self._capture_disk_errors,
            evidence.STATS: self._capture_statistics,
            evidence.CONSOLE: self._capture_console,
            evidence.QEMU_LOG: self._capture_qemu_log,
        }

    def start(self) -> None:
        """Start to sample statistics."""
        self._statistics.start()

    def stop(self, timeout: float) -> None:
        """Stop sampling.

        :param timeout: maximum duration, in seconds.
        """
        self._statistics.stop(timeout)

    def capture(self, event: Event, seen: Seen | None, kinds: Sequence[str]) -> Iterator[Item]:
        """Yield an item for each kind, in order; an item without content has a reason.

        :param seen: last known state of the instance; None if it is unknown.
        """
        subject = CaptureSubject(event=event, seen=seen)
        for kind in kinds:
            content, message = self._capture(kind, subject)
            if len(content) > self._conf.evidence.max_bytes:
                message = f"{len(content)} bytes are more than [evidence] max_bytes"
                content = b""
            at = time.time_ns() // 1000
            yield Item(kind=kind, captured_at=at, content=content, message=message[:1000])

    def _capture(self, kind: str, subject: CaptureSubject) -> tuple[bytes, str]:
        """Return (content, empty), or (empty, reason why there is no content)."""
        capture = functools.partial(self._captures[kind], subject)
        timeout = self._conf.evidence.timeout
        try:
            return self._calls.call(f"evidence-{kind}", capture, timeout), ""
        except (CallUnfinished, CaptureUnavailable, screenshot.InvalidScreenshot) as error:
            return b"", str(error)
        except libvirt.libvirtError as error:
            return b"", f"libvirt: {decode.to_plain_value(str(error))}"
        except Exception as error:
            LOG.exception(
                "Could not capture %s for event %s of instance %s",
                kind,
                subject.event.event_id,
                subject.uuid,
            )
            return b"", f"{type(error).__name__}: {error}"

    # -- from libvirt --------------------------------------------------------------------------
    @contextlib.contextmanager
    def _domain(self, subject: CaptureSubject, read_only: bool) -> Iterator[libvirt.virDomain]:
        options = self._conf.libvirt
        with EVENT_LOOP.running(), contextlib.closing(connect(options, read_only)) as opened:
            yield opened.lookupByUUIDString(subject.uuid)

    def _capture_screenshot(self, subject: CaptureSubject) -> bytes:
        # libvirt refuses a screenshot to a read-only connection.
        with self._domain(subject, read_only=False) as domain:
            stream = domain.connect().newStream(0)
            domain.screenshot(stream, 0)
            return screenshot.convert_to_png(_receive(stream))

    def _capture_disk_errors(self, subject: CaptureSubject) -> bytes:
        with self._domain(subject, self._conf.libvirt.read_only) as domain:
            found = domain.diskErrors()
        return _to_json(
            {disk: decode.name_of(tables.DISK_ERROR_CODES, code) for disk, code in found.items()}
        )

    def _capture_panic(self, subject: CaptureSubject) -> bytes:
        event = subject.event
        report: dict[str, Any] = {
            "cause": event.cause,
            "told": {
                name: value
                for name, value in event.attributes.items()
                if name != evidence.ATTRIBUTE
            },
            "log": [],
        }
        with contextlib.suppress(CaptureUnavailable):
            lines = self._read_qemu_log(subject).splitlines()
            report["log"] = [line for line in lines if PANIC_LINE.search(line)][-MAX_PANIC_LINES:]
        try:
            with self._domain(subject, self._conf.libvirt.read_only) as domain:
                report["state"], report["reason"] = decode.decode_state(*domain.state())
                with ignore_unsupported():
                    report["messages"] = decode.to_plain_value(domain.messages())
        except libvirt.libvirtError as error:
            report["state"] = "absent"
            report["reason"] = decode.to_plain_value(str(error))
        return _to_json(report)

    def _capture_statistics(self, subject: CaptureSubject) -> bytes:
        samples = self._statistics.samples_of(subject.uuid)
        before = [sample for sample in samples if sample["at"] <= subject.event.occurred_at]
        with contextlib.suppress(libvirt.libvirtError):
            samples.append(self._read_statistics(subject))
        if not samples:
            raise CaptureUnavailable("no statistics were sampled, and the instance does not run")
        return _to_json({"before": len(before), "samples": samples})

    def _read_statistics(self, subject: CaptureSubject) -> dict[str, Any]:
        with self._domain(subject, self._conf.libvirt.read_only) as domain:
            at = time.time_ns() // 1000
            [(_, fields)] = domain.connect().domainListGetStats(
                [domain],
                statistics.STATISTICS_GROUPS,
                libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT,
            )
            return statistics.make_sample(at, fields)

    # -- from files ----------------------------------------------------------------------------
    def _capture_console(self, subject: CaptureSubject) -> bytes:
        path = find_console_log(subject.seen.definition if subject.seen else "")
        text = masking.mask(text_tail.read_tail(path, MAX_TEXT_BYTES))
        return text_tail.encode_tail(text, self._max_text_bytes())

    def _capture_qemu_log(self, subject: CaptureSubject) -> bytes:
        return text_tail.encode_tail(self._read_qemu_log(subject), self._max_text_bytes())

    def _max_text_bytes(self) -> int:
        return min(MAX_TEXT_BYTES, self._conf.evidence.max_bytes)

    def _read_qemu_log(self, subject: CaptureSubject) -> str:
        options = self._conf.evidence
        directory = options.qemu_log_directory or find_log_directory(self._conf.libvirt.uri)
        path = os.path.join(directory, log_file_name(subject.domain_name))
        return masking.mask_log(text_tail.read_tail(path, MAX_TEXT_BYTES))


def find_console_log(definition: str) -> str:
    """Return the path of the console log of an instance.

    :param definition: the domain XML, as the host's administrator or nova wrote it.
    :raises CaptureUnavailable: the definition names no such file.
    """
    root = metadata.parse_xml(definition) if definition else None
    if root is None:
        raise CaptureUnavailable("the definition of the instance is not known")
    for port in (*root.iterfind("devices/console"), *root.iterfind("devices/serial")):
        path = _file_of(port)
        if os.path.isabs(path):
            return path
    raise CaptureUnavailable("the definition of the instance names no file for its console")


def _file_of(port: ElementTree.Element) -> str:
    found = port.find("log")
    if found is not None and found.get("file"):
        return found.get("file", "")
    source = port.find("source")
    return source.get("path", "") if source is not None and port.get("type") == "file" else ""


def log_file_name(domain_name: str) -> str:
    """Return the name of QEMU's log file of a domain.

    :raises CaptureUnavailable: the name is unknown, or cannot be part of a file name.
    """
    if not domain_name:
        raise CaptureUnavailable("the domain name of the instance is not known")
    if "/" in domain_name or "\0" in domain_name:
        raise CaptureUnavailable("the domain name of the instance is not valid in a file name")
    return f"{domain_name}.log"


def find_log_directory(uri: str) -> str:
    """Return the directory of QEMU's logs.

    :param uri: ``[libvirt] uri``.
    """
    if not uri.partition("?")[0].endswith("/session"):
        return SYSTEM_LOG_DIRECTORY
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(cache, "libvirt", "qemu", "log")


def _receive(stream: libvirt.virStream) -> bytes:
    """Read a stream to its end.

    :raises CaptureUnavailable: it is too long.
    """
    data = bytearray()
    while chunk := stream.recv(STREAM_CHUNK):
        data += chunk
        if len(data) > MAX_RAW_SCREENSHOT:
            stream.abort()
            raise CaptureUnavailable(f"the screenshot is larger than {MAX_RAW_SCREENSHOT} bytes")
    stream.finish()
    return bytes(data)


def _to_json(value: Any) -> bytes:
    return json.dumps(value, indent=1, ensure_ascii=False).encode(errors="replace") + b"\n"
