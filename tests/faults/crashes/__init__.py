"""The ring of crashes: every command dies at every gate, and whoever sent it sends it again (`docs/crashes.md`)."""
