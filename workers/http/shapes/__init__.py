"""The bodies that clients send and the answers that they get, as types.

A body builds the command that it stands for. A shape needs the commands of the domain and no route; routes and the document need shapes.
"""
