"""The bodies that the HTTP edge takes and the answers that it gives, as types. Shapes know no route."""
