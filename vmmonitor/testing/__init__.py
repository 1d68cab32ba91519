# SPDX-License-Identifier: Apache-2.0
"""Fixtures for tests of plug-ins, and for trying vmmonitor on a real hypervisor.

They are published: a source, an expectation or a driver outside this repository can use them in
its own tests. The extra ``testing`` installs the packages that they need.

``builders``
    Events, incidents and driver requests with plausible values.
``copies``
    Fails a test if two copies of an instance ran at the same time. Each ``Guest`` uses it.
``deadline``
    ``eventually`` waits for a condition for a bounded time.
``hypervisor``, ``guest``
    A private libvirtd and real QEMU guests that boot in milliseconds and take orders on their
    serial console; for the ``libvirt`` sources and drivers.
``console``
    The same orders for a guest of nova.
``processes``
    Runs programs as an unprivileged user in a temporary directory, and ends all of them.
"""
