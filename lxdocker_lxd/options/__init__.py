"""What can be said to each command: arguments, and nothing that runs."""
