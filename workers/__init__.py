"""Everything that runs: HTTP edge, task pod, dispatcher, relay, inbox, and the command line that starts them."""
