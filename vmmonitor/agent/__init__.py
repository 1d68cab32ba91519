# SPDX-License-Identifier: Apache-2.0
"""The process on each compute host: sources -> filter -> spool -> forwarder.

Read ``pipeline.py`` first.
"""
