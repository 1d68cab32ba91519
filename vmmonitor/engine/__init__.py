# SPDX-License-Identifier: Apache-2.0
"""The central process: ingest -> events and incidents -> hold -> expectation -> recovery.

Read ``pipeline.py`` first. Any number of engines run at once, all alike; the database decides
between them.
"""
