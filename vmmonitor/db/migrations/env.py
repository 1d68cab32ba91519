# SPDX-License-Identifier: Apache-2.0
"""Run the migrations on the connection that ``db.schema`` or a test provides."""

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
