# SPDX-License-Identifier: Apache-2.0
"""The db room on SQLite. The live tests run the same contract on MariaDB and PostgreSQL."""
