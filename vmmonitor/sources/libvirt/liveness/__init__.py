# SPDX-License-Identifier: Apache-2.0
"""Failures without an event: hung QEMU processes, stalled guests, unreported pauses."""
