# SPDX-License-Identifier: Apache-2.0
"""Store the data of vmmonitor in an SQL database.

Other packages do not contain queries. ``session`` runs transactions, ``tables`` defines the
tables, and ``schema`` upgrades them. Each kind of object has a module; its functions have the
transaction as their first argument and return data classes of the model instead of rows.
"""
