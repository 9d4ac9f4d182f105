"""The routes of the HTTP edge, one module a resource: each opens no transaction of its own and calls one command or one read."""
