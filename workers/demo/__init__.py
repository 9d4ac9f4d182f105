"""The demo: takes sample quotes to fulfilled orders while faults happen, and audits the result."""
