"""The race explorer: real commands on real connections, one statement at a time, in every order of their statements.

`stage` is a database that is restored before each schedule, `actors` are threads that stop before each statement, `schedules` carries out
one order of their statements, `search` every order. `commands` and `worlds` say which commands meet in which state, `expected.txt` lists
the outcomes that are allowed, `invariants` the rules that every outcome keeps. `docs/explorer.md` explains how to use it.
"""
