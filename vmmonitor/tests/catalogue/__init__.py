# SPDX-License-Identifier: Apache-2.0
"""Scenarios of faults and planned operations on real guests.

``rows`` and ``planned`` are the tables. The live tests, ``tools/bench accuracy`` and the page
``doc/source/admin/fault-catalogue.rst`` use them.
"""
