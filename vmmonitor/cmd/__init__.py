# SPDX-License-Identifier: Apache-2.0
"""The programs: each builds its parts from the configuration, wires and starts them."""
