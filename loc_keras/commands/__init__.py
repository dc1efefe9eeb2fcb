"""What the commands do once their arguments are read: `run(args)` of each gives the exit code."""
