"""Building twice, in two empty stores, and what differs between the results."""
