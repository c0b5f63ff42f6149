"""Seeing: backbones under one contract, the weights that fill them, and the facts of preparation that travel with
those weights. Importing the package loads neither torch nor a model library; its modules do."""
