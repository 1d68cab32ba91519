# SPDX-License-Identifier: Apache-2.0
"""What every database must do, as mixins.

A test class adds a database: ``self.database`` is a Database with current tables and no rows,
``self.another()`` returns a further Database of the same tables, as another process has.
"""
