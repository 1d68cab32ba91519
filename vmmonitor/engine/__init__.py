# SPDX-License-Identifier: Apache-2.0
"""The central process: ingest -> incidents -> admission -> recovery, with reconcile and upkeep.

Read ``ingest/writer.py`` first, then ``recovery/dispatcher.py``. Any number of equal engines
run at the same time; guarded updates in the database decide which of them acts.
"""
