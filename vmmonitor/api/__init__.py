# SPDX-License-Identifier: Apache-2.0
"""The REST API: reads what the engines wrote. Start at ``routes.py``."""
