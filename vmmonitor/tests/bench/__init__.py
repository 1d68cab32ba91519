# SPDX-License-Identifier: Apache-2.0
"""How fast, how much, how dear: measured on the real thing. Run it with ``tools/bench``."""
