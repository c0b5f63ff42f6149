"""Numbers about predictions and labels: arrays in, numbers out."""
