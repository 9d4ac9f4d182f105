"""The routes, one module for each resource. A route parses, runs one command or one read, and answers; it opens no transaction."""
