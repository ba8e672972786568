"""scipy's methods on our evaluation layer, and our methods inside scipy's functions."""
