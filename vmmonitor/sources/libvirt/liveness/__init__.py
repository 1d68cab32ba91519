# SPDX-License-Identifier: Apache-2.0
"""The liveness source: finds what hangs without a word.

Pure, and where every decision is made: ``readings`` (what was measured), ``hung`` (QEMU),
``stalled`` (the guest), ``facts`` (each is told once), ``judge`` (all of it for one instance),
``settings``. Thin, and where the world is: ``tasks`` (/proc), ``probe`` (libvirt), ``pool``
(threads that may get stuck), ``memory`` (a file), ``source`` (the rounds).
"""
