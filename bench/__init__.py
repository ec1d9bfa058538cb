"""What the router costs, beside others: `make bench`. RESULTS.md says how to run it."""
