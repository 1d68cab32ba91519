# SPDX-License-Identifier: Apache-2.0
"""The REST API: returns data of the engines, and stores silences and operator requests for them.

Start at ``routes.py``, which lists the URLs and their handlers.
"""
