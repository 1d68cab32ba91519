# SPDX-License-Identifier: Apache-2.0
"""What alembic runs: the revisions, on the connection that ``db.schema`` or a test gives."""

from alembic import context

from vmmonitor.db import tables

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=tables.METADATA,
    # SQLite cannot alter a table; alembic copies it instead.
    render_as_batch=connection.dialect.name == "sqlite",
)
with context.begin_transaction():
    context.run_migrations()
