# SPDX-License-Identifier: Apache-2.0
"""What an operator decides in files: which events matter (filters), and what is done (policies).

Pure: a file is read once, by ``load``; after that nothing is done but looking at an event.
Filters and policies are both ordered lists of named rows with one language for matching
(``matchers``); the first row that matches decides.
"""
