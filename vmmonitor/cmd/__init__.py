# SPDX-License-Identifier: Apache-2.0
"""The console scripts.

They run on native threads. Older versions of oslo.log and oslo.utils import eventlet where it is
installed; that takes memory and prints a warning, so that it is made unavailable here, before any
of them is imported.
"""

import sys

sys.modules.setdefault("eventlet", None)  # type: ignore[arg-type]
