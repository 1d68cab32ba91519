# SPDX-License-Identifier: Apache-2.0
"""What is kept in SQL. The only room that knows SQLAlchemy; rows never leave it.

``session`` gives transactions, ``tables`` the tables, ``schema`` their versions, and each noun
has a module whose functions take the transaction first and return the model's dataclasses.
"""
