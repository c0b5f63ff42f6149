"""Folders of Parquet tables with a manifest, written so that a kill loses nothing and errors name the place."""

from fashionkit.tables.errors import InputError, nearest, shorten
from fashionkit.tables.files import sha256_file, sweep_temporary, write_atomic, write_table, write_text
from fashionkit.tables.folder import (
    AUDIT,
    MANIFEST,
    Manifest,
    describe_file,
    part_path,
    read_manifest,
    read_table,
    table_parts,
    verify,
    write_manifest,
)

__all__ = [
    "AUDIT",
    "MANIFEST",
    "InputError",
    "Manifest",
    "describe_file",
    "nearest",
    "part_path",
    "read_manifest",
    "read_table",
    "sha256_file",
    "shorten",
    "sweep_temporary",
    "table_parts",
    "verify",
    "write_atomic",
    "write_manifest",
    "write_table",
    "write_text",
]
