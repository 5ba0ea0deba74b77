"""Contracts of Noctile's protocols, for tests of further slide readers, predictors and engines.

Each contract is a class of pytest tests. A subclass names the implementation; it then has all of
the tests. Needs ``pip install 'noctile[test]'``.
"""
