"""Training with Lightning: data modules over catalogues, tasks over networks, and the command line of both."""
