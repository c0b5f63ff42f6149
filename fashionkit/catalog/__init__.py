"""Catalogues: ontology, images/items/attributes, importers, leak-free splits, the drawn demo catalogue."""
