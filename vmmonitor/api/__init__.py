# SPDX-License-Identifier: Apache-2.0
"""The REST API: tells what the engines wrote, and writes what an operator
wants done, for an engine to find. Start at ``routes.py``."""
