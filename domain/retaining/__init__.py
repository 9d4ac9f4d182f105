"""What is deleted when it is old: technical rows by their age (`kinds`), and business that is over (`walks`), once it is
archived (`dossiers`).

This room needs every table of the domain; only the process `q2o retain` and the audit need it (decision 0038).
"""
