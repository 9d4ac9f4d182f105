"""The HTTP edge: parse, one unit of work, one command, the answer. Every rule of business lies in `domain`."""
