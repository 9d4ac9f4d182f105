"""The HTTP edge: it parses a request, runs one command in one unit of work, and answers. Business rules are in `domain`."""
