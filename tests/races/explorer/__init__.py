"""The race explorer: real commands on real connections, let through one statement at a time, in every order there is.

`stage` is a database that is put back before each schedule, `actors` are threads that stop before each statement, `schedules` carries
out one order of their statements, `search` all of them. `commands` and `worlds` say which commands meet in which state, `expected.txt`
what may come of it, `invariants` what must never. `docs/explorer.md` tells how to use it.
"""
