"""Upkeep of a library: doctor, garbage collection, backup, dropping indexes."""
