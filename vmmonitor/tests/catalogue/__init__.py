# SPDX-License-Identifier: Apache-2.0
"""Every fault that vmmonitor tells from every planned operation, made on real guests.

``rows`` is the table; the live suite, ``tools/bench accuracy`` and the administrator's page all
go by it.
"""
