# SPDX-License-Identifier: Apache-2.0
"""One module per step, named by its number and what it does. Never changed once released."""
