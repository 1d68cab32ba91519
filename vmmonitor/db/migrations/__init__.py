# SPDX-License-Identifier: Apache-2.0
"""The steps from an empty database to ``tables``, run by alembic."""
