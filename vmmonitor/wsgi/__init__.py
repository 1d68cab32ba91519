# SPDX-License-Identifier: Apache-2.0
"""The REST API as a WSGI application, for any WSGI server."""
